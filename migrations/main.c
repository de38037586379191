#include "migrations/migrate.h"

int main(int argc, char **argv)
{
    return sb_migrations_main(argc, argv);
}

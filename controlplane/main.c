/* main.c - silverback-controlplane. */
#include <stdio.h>
#include <string.h>

#include "controlplane/translate/translate.h"

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "translate"))
        return sb_translate_command(argc - 1, argv + 1);
    fprintf(stderr, "Usage: silverback-controlplane translate --manifests PATH\n");
    return 1;
}

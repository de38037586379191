/* driver.c RUNS SECONDS CORPUS... - a fuzz target without libFuzzer: over its corpus, then over
 * mutations of it, always the same ones. What CI has time for; `make fuzz` looks for more. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUTS_MAX = 500, LEN_MAX = 4096, MUTATIONS_MAX = 6 };

static struct {
    uint8_t *data;
    size_t len;
} inputs[INPUTS_MAX];
static size_t ninputs;

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252U; /* xorshift */

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 11;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

static void add_file(const char *path)
{
    FILE *f = fopen(path, "rb");

    if (!f || ninputs == INPUTS_MAX)
        return;
    inputs[ninputs].data = sb_xmalloc(LEN_MAX);
    inputs[ninputs].len = fread(inputs[ninputs].data, 1, LEN_MAX, f);
    ninputs++;
    fclose(f);
}

/* In the order of their names, so that each run is the same. */
static void add_folder(const char *folder)
{
    struct dirent **entries;
    char path[4096];
    int n = scandir(folder, &entries, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            add_file(path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

static size_t mutate(uint8_t *buf, size_t len)
{
    static const char odd[] = "\0\r\n\t :;,/?#%.-_+0919aAfF\"\\{}[]\x7f\x80\xff";
    size_t at = below(len), n = below(len - at) % 32, other = below(ninputs);

    switch (below(6)) {
    case 0:
        if (len)
            buf[at] ^= (uint8_t)(1U << below(8));
        return len;
    case 1:
        if (len)
            buf[at] = (uint8_t)odd[below(sizeof odd - 1)];
        return len;
    case 2: /* a piece goes */
        memmove(buf + at, buf + at + n, len - at - n);
        return len - n;
    case 3: /* a piece comes twice */
        if (len + n > LEN_MAX)
            return len;
        memmove(buf + at + n, buf + at, len - at);
        return len + n;
    case 4: /* the end of another one */
        n = below(inputs[other].len);
        if (at + inputs[other].len - n > LEN_MAX)
            return len;
        memcpy(buf + at, inputs[other].data + n, inputs[other].len - n);
        return at + inputs[other].len - n;
    default:
        if (len == LEN_MAX)
            return len;
        memmove(buf + at + 1, buf + at, len - at);
        buf[at] = (uint8_t)odd[below(sizeof odd - 1)];
        return len + 1;
    }
}

static void run(const uint8_t *data, size_t len)
{
    uint8_t *copy = sb_xmalloc(len + 1); /* of its own size, for tools that watch its ends */

    memcpy(copy, data, len);
    (void)LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

int main(int argc, char **argv)
{
    uint8_t buf[LEN_MAX] = {0};
    long runs = argc > 1 ? atol(argv[1]) : 0, done = 0;
    time_t end = time(NULL) + (argc > 2 ? atol(argv[2]) : 1);

    for (int i = 3; i < argc; i++)
        add_folder(argv[i]);
    if (ninputs == 0)
        inputs[ninputs++].data = sb_xmalloc(LEN_MAX);
    for (size_t i = 0; i < ninputs; i++)
        run(inputs[i].data, inputs[i].len);
    for (; done < runs && time(NULL) <= end; done++) {
        size_t from = below(ninputs), len = inputs[from].len;

        memcpy(buf, inputs[from].data, len);
        for (size_t n = 1 + below(MUTATIONS_MAX); n-- > 0;)
            len = mutate(buf, len);
        run(buf, len);
    }
    printf("%zu inputs, %ld mutations\n", ninputs, done);
    for (size_t i = 0; i < ninputs; i++)
        free(inputs[i].data);
    return 0;
}

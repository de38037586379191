#include "shared/startup_memory.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Segments that nobody may write are as the file has them: a page that is gone is read anew. What
 * the linker wrote once and then locked (RELRO) lies in a writable segment. */
static int release_object(struct dl_phdr_info *info, size_t len, void *arg)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)len;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
        uintptr_t to = (info->dlpi_addr + p->p_vaddr + p->p_filesz) & ~(page - 1);

        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W) && to > from)
            (void)madvise((void *)from, to - from, MADV_DONTNEED); /* the vDSO says no */
    }
    return 0;
}

void sb_startup_memory_release(void)
{
    malloc_trim(0);
    (void)dl_iterate_phdr(release_object, NULL);
}

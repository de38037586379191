/* startup_memory.h - what only a start needed goes back to the system.
 *
 * Starting reads all over the libraries: symbol tables and relocations of some forty of them,
 * constructors, OpenSSL's tables of names. None of that is looked at again, but the pages stay
 * mapped and count as ours. Let go, those that are used come back by a minor fault each.
 */
#ifndef SB_SHARED_STARTUP_MEMORY_H
#define SB_SHARED_STARTUP_MEMORY_H

/* Once, when everything is up; other threads may run meanwhile. Breakpoints that a debugger set
 * before are lost. */
void sb_startup_memory_release(void);

#endif

#include "dataplane/listen/limits.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dataplane/listen/options.h"
#include "shared/buf.h"
#include "shared/log.h"

enum { FILES_MAX = 1 << 20, FILES_WANTED = 4096, PORTS_WANTED = 10000, TEXT_MAX = 4096 };

/* -- cores ------------------------------------------------------------------------------------- */

/* False: there is no such file, or it is empty. */
static bool read_text(const char *path, char out[TEXT_MAX])
{
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, TEXT_MAX - 1, f) : 0;

    if (f)
        fclose(f);
    out[n] = '\0';
    return n > 0;
}

static unsigned cores_of(long long quota, long long period)
{
    return quota > 0 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

static unsigned quota_at(const char *dir)
{
    char path[TEXT_MAX], text[TEXT_MAX];
    long long quota = 0, period = 100000;

    snprintf(path, sizeof path, "%.4000s/cpu.max", dir);
    if (read_text(path, text))
        return sscanf(text, "%lld %lld", &quota, &period) >= 1 ? cores_of(quota, period) : 0;
    snprintf(path, sizeof path, "%.4000s/cpu.cfs_quota_us", dir);
    if (!read_text(path, text) || sscanf(text, "%lld", &quota) != 1)
        return 0;
    snprintf(path, sizeof path, "%.4000s/cpu.cfs_period_us", dir);
    if (read_text(path, text) && sscanf(text, "%lld", &period) != 1)
        return 0;
    return cores_of(quota, period);
}

/* The least of what the group and those above it allow. */
unsigned sb_limits_quota(const char *root, const char *path)
{
    char dir[TEXT_MAX];
    size_t root_len = strlen(root);
    unsigned least = 0;

    snprintf(dir, sizeof dir, "%.1000s%.3000s", root, path);
    for (;;) {
        unsigned here = quota_at(dir);
        char *slash = strrchr(dir, '/');

        if (here && (!least || here < least))
            least = here;
        if (!slash || (size_t)(slash - dir) < root_len)
            return least;
        *slash = '\0';
    }
}

/* Lines of /proc/self/cgroup: "0::/path" of v2, "4:cpu,cpuacct:/path" of v1. */
static unsigned quota_of_groups(void)
{
    char text[TEXT_MAX];
    struct sb_str rest, line;
    unsigned least = 0;

    if (!read_text("/proc/self/cgroup", text))
        return 0;
    rest = sb_str_c(text);
    while (sb_str_split(&rest, '\n', &line)) {
        ptrdiff_t slash = sb_str_find(line, SB_STR(":/"), 0);
        bool v2 = sb_str_starts(line, SB_STR("0::"));
        char path[TEXT_MAX];
        unsigned here;

        if (slash < 0 || (!v2 && sb_str_find(line, SB_STR("cpu"), 0) < 0))
            continue;
        line = sb_str_from(line, (size_t)slash + 1);
        snprintf(path, sizeof path, "%.*s", SB_ARG(line));
        here = sb_limits_quota(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", path);
        if (here && (!least || here < least))
            least = here;
    }
    return least;
}

unsigned sb_limits_cores(void)
{
    unsigned quota = quota_of_groups();
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    if (n < 1)
        n = 1;
    return quota && quota < (unsigned)n ? quota : (unsigned)n;
}

/* -- files, backlogs, ports -------------------------------------------------------------------- */

/* Returns how many there may be from here on. */
static int64_t raise_files(const struct sb_settings *s)
{
    const char *text = sb_settings_str(s, "nginx_main_worker_rlimit_nofile");
    struct rlimit limit;
    int64_t want = 0;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return FILES_MAX;
    if (!text || !sb_str_int(sb_str_c(text), &want) || want <= 0)
        want = limit.rlim_max < FILES_MAX ? (int64_t)limit.rlim_max : FILES_MAX;
    if ((rlim_t)want > limit.rlim_max) {
        sb_warn("nginx_main_worker_rlimit_nofile = %lld is more than the hard limit of %llu open "
                "files, which is taken",
                (long long)want, (unsigned long long)limit.rlim_max);
        want = (int64_t)limit.rlim_max;
    }
    limit.rlim_cur = (rlim_t)want;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        sb_warn("the limit of open files cannot be set to %lld: %s", (long long)want,
                strerror(errno));
    return want;
}

static void check_files(const struct sb_proxy_options *o, int64_t files)
{
    int64_t wanted = (int64_t)o->workers * (int64_t)o->connections_max;

    if (wanted > files)
        sb_warn("%u workers with nginx_events_worker_connections = %u may open %lld files, but the "
                "limit is %lld: raise \"ulimit -n\"",
                o->workers, o->connections_max, (long long)wanted, (long long)files);
    else if (files < FILES_WANTED)
        sb_warn("ulimit is currently set to \"%lld\". For better performance set it to at least "
                "\"%d\" using \"ulimit -n\"",
                (long long)files, FILES_WANTED);
}

static void check_backlogs(const struct sb_proxy_options *o)
{
    char text[TEXT_MAX];
    int most;

    if (!read_text("/proc/sys/net/core/somaxconn", text) || sscanf(text, "%d", &most) != 1)
        return;
    for (size_t i = 0; i < o->nlistens; i++) {
        if (o->listens[i].backlog <= most)
            continue;
        sb_warn("backlog=%d of %.*s is cut to %d by net.core.somaxconn", o->listens[i].backlog,
                SB_ARG(o->listens[i].text), most);
        return;
    }
}

/* Each connection to an upstream takes one, per address and port of the upstream. */
static void check_ports(void)
{
    char text[TEXT_MAX];
    int first, last;

    if (read_text("/proc/sys/net/ipv4/ip_local_port_range", text) &&
        sscanf(text, "%d %d", &first, &last) == 2 && last - first + 1 < PORTS_WANTED)
        sb_warn("net.ipv4.ip_local_port_range leaves only %d ports for connections to an upstream",
                last - first + 1);
}

void sb_limits_apply(const struct sb_settings *s, const struct sb_proxy_options *o)
{
    check_files(o, raise_files(s));
    check_backlogs(o);
    check_ports();
}

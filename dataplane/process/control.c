/* control.c - verbs that speak to a node that runs already: by signal, or by its status listener.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <curl/curl.h>

#include "dataplane/process/options.h"
#include "dataplane/process/prefix.h"
#include "dataplane/process/request.h"
#include "dataplane/process/verbs.h"

enum { DRAIN_TIMEOUT_MS = 1000 };

/* The node of the prefix; 0 when there is none, which has been said. */
static pid_t running(const struct sb_settings *s)
{
    const char *prefix = sb_settings_prefix(s);
    pid_t pid;

    if (access(prefix, F_OK) != 0) {
        sb_options_fail("no such prefix: %s", prefix);
        return 0;
    }
    pid = sb_prefix_pid(prefix);
    if (!pid)
        sb_options_fail("nginx not running in prefix: %s", prefix);
    return pid;
}

bool sb_process_wait(pid_t pid, int timeout_ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool gone;

    if (fd < 0)
        return errno == ESRCH;
    gone = poll(&p, 1, timeout_ms) > 0;
    close(fd);
    return gone;
}

int sb_verb_stop(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    pid_t pid;
    int rest;

    if (!sb_options_parse(argc, argv, SB_OPT_PREFIX | SB_OPT_CONF,
                          "Usage: kong stop [OPTIONS]\n\nStop a running node at once (SIGTERM).",
                          &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    pid = s ? running(s) : 0;
    if (pid && kill(pid, SIGTERM) == 0)
        puts("Kong stopped");
    sb_settings_free(s);
    return pid ? 0 : 1;
}

int sb_verb_quit(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    pid_t pid;
    int rest;

    if (!sb_options_parse(
            argc, argv, SB_OPT_PREFIX | SB_OPT_CONF | SB_OPT_TIMEOUT | SB_OPT_WAIT,
            "Usage: kong quit [OPTIONS]\n\n"
            "Stop a running node gracefully (SIGQUIT): requests under way are finished.",
            &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    pid = s ? running(s) : 0;
    sb_settings_free(s);
    if (!pid)
        return 1;
    if (o.timeout_s < 1)
        return sb_options_fail("timeout must be greater than 0");
    if (o.wait_s > 0 && sb_process_wait(pid, (int)(o.wait_s * 1000)))
        return 0;
    kill(pid, SIGQUIT);
    if (sb_process_wait(pid, (int)(o.timeout_s * 1000))) {
        puts("Kong stopped (gracefully)");
        return 0;
    }
    kill(pid, SIGTERM);
    puts("Timeout, Kong stopped forcefully");
    return 0;
}

int sb_ask_master(const struct sb_options *options, const char *prefix, bool restart)
{
    char path[PATH_MAX];
    struct sb_request q = {.restart = restart, .env = (const char **)environ};
    struct sb_err err;

    if (options->conf) /* the node may stand elsewhere */
        q.conf = realpath(options->conf, path);
    if (sb_request_ask(prefix, &q, &err) == SB_OK)
        return 0;
    return sb_options_fail("%s", err.text);
}

int sb_verb_reload(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    int rest, code = 1;

    if (!sb_options_parse(
            argc, argv, SB_OPT_CONF | SB_OPT_PREFIX | SB_OPT_NGINX,
            "Usage: kong reload [OPTIONS]\n\n"
            "Have the running node take up its configuration files as they are now, and FILE\n"
            "and the environment of this command over them: every setting, without losing a\n"
            "connection. When they do not work, everything stays as it was.",
            &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    if (s && running(s))
        code = sb_ask_master(&o, sb_settings_prefix(s), false);
    if (!code)
        puts("Kong reloaded");
    sb_settings_free(s);
    return code;
}

int sb_verb_health(int argc, char **argv)
{
    struct sb_options o;
    struct sb_settings *s;
    bool up;
    int rest;

    if (!sb_options_parse(
            argc, argv, SB_OPT_PREFIX | SB_OPT_CONF,
            "Usage: kong health [OPTIONS]\n\nSay whether the node of the prefix runs.", &o, &rest))
        return 1;
    s = sb_options_settings(&o);
    if (!s)
        return 1;
    up = sb_prefix_pid(sb_settings_prefix(s)) > 0;
    printf("nginx.......%s\n\n", up ? "running" : "not running");
    if (up)
        printf("Kong is healthy at %s\n", sb_settings_prefix(s));
    else
        sb_options_fail("Kong is not running at %s", sb_settings_prefix(s));
    sb_settings_free(s);
    return up ? 0 : 1;
}

/* "http://127.0.0.1:8007/status/ready" of the first status listener; empty when it is off. */
static struct sb_str drain_url(const struct sb_settings *s, struct sb_arena *a)
{
    size_t n;
    const struct sb_str *items = sb_settings_list(s, "status_listen", &n);
    struct sb_str rest, address;
    bool tls;

    if (n == 0 || sb_str_is(items[0], "off"))
        return SB_STR("");
    rest = items[0];
    sb_str_split(&rest, ' ', &address);
    tls = rest.p && sb_str_find(rest, SB_STR("ssl"), 0) >= 0;
    if (sb_str_starts(address, SB_STR("0.0.0.0:")))
        address =
            sb_arena_printf(a, "127.0.0.1%.*s", SB_ARG(sb_str_from(address, strlen("0.0.0.0"))));
    else if (sb_str_starts(address, SB_STR("[::]:")))
        address = sb_arena_printf(a, "[::1]%.*s", SB_ARG(sb_str_from(address, strlen("[::]"))));
    return sb_arena_printf(a, "%s://%.*s/status/ready", tls ? "https" : "http", SB_ARG(address));
}

static long post_draining(const char *url)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURL *curl = curl_easy_init();
    long status = 0;

    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "{\"status\":\"draining\"}");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)DRAIN_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L); /* our own listener, maybe self-signed */
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    if (curl_easy_perform(curl) == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return status;
}

/* Kong always ends with 0 here, whatever happened; scripts deserve to know. */
int sb_verb_drain(int argc, char **argv)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_options o;
    struct sb_settings *s = NULL;
    struct sb_str url = {0};
    long status = 0;
    int rest;

    if (sb_options_parse(
            argc, argv, SB_OPT_CONF | SB_OPT_PREFIX,
            "Usage: kong drain [OPTIONS]\n\n"
            "Make /status/ready of the running node answer 503, so that traffic leaves.",
            &o, &rest))
        s = sb_options_settings(&o);
    if (s)
        url = drain_url(s, a);
    if (s && url.len == 0)
        puts("No status listeners found in configuration.");
    if (url.len)
        status = post_draining(url.p);
    if (url.len && status == 0)
        printf("Failed to send request to URL: %s\n", url.p);
    else if (url.len && status / 100 == 2)
        puts("Kong's status successfully changed to 'draining'");
    else if (url.len)
        printf("Unexpected response status from URL: %ld\n", status);
    sb_settings_free(s);
    sb_arena_free(a);
    return status / 100 == 2 ? 0 : 1;
}

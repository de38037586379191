/* master.c - a master and the processes that serve, as with nginx.
 *
 *     CLI, signals --> master (pid file, pid 1 of a container; one thread, no settings)
 *                        |  the listening sockets of all generations
 *                        |-- serving process n     leaves: finishes what it has, then ends
 *                        `-- serving process n+1   has the same sockets; serves
 *
 * Why not one process that turns itself into the next: a reload applies every setting, also those
 * that are read once (user, worker count, memory, plugins' globals), and a fresh process is the one
 * thing in which nothing of the old settings can linger. It also may be a new version of the
 * program. Why not a new process that takes the pid file over: supervisors (pid 1, systemd) watch
 * the pid that they started. So that pid stays, and does next to nothing, which is what makes it
 * safe to stay.
 *
 * A reload, step by step; whatever fails before 3 leaves the old process as it was:
 *
 *     1 the new one gets the sockets, reads its settings, connects, compiles: READY
 *     2 it hands back what sockets it uses; from here on both accept
 *     3 the old one closes its API, saves, says RELEASED and finishes its connections
 *     4 the new one gets GO, reads what was saved last, opens its API: STARTED
 *
 * (I1) A listening socket is closed only when no process uses its address any more.
 * (I2) At most one process is on its way; who asks meanwhile waits.
 * (I3) A serving process that ends without being asked to is started again, from its own recipe.
 */
#include "dataplane/process/master.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/listen/tls_tickets.h"
#include "dataplane/process/channel.h"
#include "dataplane/process/options.h"
#include "dataplane/process/prefix.h"
#include "dataplane/process/recipe.h"
#include "dataplane/process/request.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/startup_memory.h"
#include "shared/vec.h"

enum { AGAIN_FIRST_MS = 100, AGAIN_MAX_MS = 5000, STEADY_MS = 10000 };

enum state { STARTING, READY, SERVING, LEAVING };

struct child {
    pid_t pid;
    int channel;
    enum state state;
    bool failed; /* it said why */
    int64_t since_ms;
    SB_VEC(int) sockets; /* that it says it uses, until it is READY */
};

struct master {
    const struct sb_options *options;
    const char *prefix;
    struct sb_recipe *recipe, *next_recipe; /* of who serves; of who is on its way */
    SB_VEC(struct child *) children;
    struct child *coming, *serving, *releasing; /* NULL: none */
    SB_VEC(int) sockets;
    int tickets;                 /* memory of the keys of TLS tickets; -1: none */
    int signals, control, asker; /* asker: waits for the reload under way; -1: nobody */
    bool reload_again, stopping, told_to_stop, ever_started, crashed;
    int64_t again_at_ms, again_ms; /* when to start what crashed; 0: nothing to */
    int code;
    char trouble[SB_WORD_LEN_MAX + 1];
    char lent[64]; /* the log level that the process which leaves was lent (shared/log.h) */
    void (*started)(void *arg);
    void *arg;
};

/* -- starting a process ------------------------------------------------------------------------ */

static struct child *new_child(struct master *m, pid_t pid, int channel)
{
    struct child *c = sb_xcalloc(1, sizeof *c);

    *c = (struct child){.pid = pid, .channel = channel, .since_ms = sb_clock_ms()};
    sb_vec_push(&m->children, c);
    return c;
}

/* Starts the next generation from m->next_recipe. */
static bool spawn(struct master *m)
{
    int ends[2];
    pid_t pid;

    m->trouble[0] = '\0';
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return false;
    pid = sb_recipe_spawn(m->next_recipe, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return false;
    }
    m->coming = new_child(m, pid, ends[0]);
    if ((m->tickets >= 0 && sb_channel_say_sockets(ends[0], &m->tickets, 1)) ||
        sb_channel_say_sockets(ends[0], m->sockets.p, m->sockets.len) ||
        sb_channel_say(ends[0], SB_WORD_BEGIN, NULL))
        sb_warn("process %d ended before it began", (int)pid); /* SIGCHLD will tell the rest */
    return true;
}

static void take_recipe(struct master *m)
{
    if (m->recipe != m->next_recipe)
        sb_recipe_free(m->recipe);
    m->recipe = m->next_recipe;
    m->next_recipe = NULL;
}

static void drop_recipe(struct master *m)
{
    if (m->recipe != m->next_recipe)
        sb_recipe_free(m->next_recipe);
    m->next_recipe = NULL;
}

static void answer_asker(struct master *m, const char *err)
{
    if (m->asker >= 0)
        sb_request_answer(m->asker, err);
    m->asker = -1;
}

static void try_later(struct master *m)
{
    m->again_ms = !m->again_ms                     ? AGAIN_FIRST_MS
                  : m->again_ms * 2 < AGAIN_MAX_MS ? m->again_ms * 2
                                                   : AGAIN_MAX_MS;
    m->again_at_ms = sb_clock_ms() + m->again_ms;
}

/* The process on its way is no more. Who serves, serves on. */
static void reload_failed(struct master *m, const char *why)
{
    m->coming = NULL;
    drop_recipe(m);
    if (!m->ever_started) {
        snprintf(m->trouble, sizeof m->trouble, "%s", why);
        m->stopping = true;
        m->code = 1;
    } else if (m->serving) {
        sb_error("reload: %s; everything stays as it was", why);
    } else {
        sb_error("%s", why);
        try_later(m);
    }
    answer_asker(m, why);
}

static void begin(struct master *m, struct sb_recipe *recipe)
{
    m->next_recipe = recipe;
    m->again_at_ms = 0;
    if (!spawn(m))
        reload_failed(m, strerror(errno));
}

/* -- what they say ----------------------------------------------------------------------------- */

static void close_sockets(struct master *m)
{
    for (size_t i = 0; i < m->sockets.len; i++)
        close(m->sockets.p[i]);
    sb_vec_clear(&m->sockets);
}

static void let_go(struct master *m)
{
    char text[sizeof "again " + sizeof m->lent] = "";

    if (m->ever_started)
        snprintf(text, sizeof text, "again %s", m->lent);
    if (m->coming && m->coming->state == READY && !m->releasing &&
        sb_channel_say(m->coming->channel, SB_WORD_GO, text))
        sb_warn("process %d ended before it took over", (int)m->coming->pid);
}

static void on_ready(struct master *m, struct child *c)
{
    c->state = READY;
    close_sockets(m);
    for (size_t i = 0; i < c->sockets.len; i++)
        sb_vec_push(&m->sockets, c->sockets.p[i]);
    sb_vec_clear(&c->sockets);
    if (m->serving) {
        m->releasing = m->serving;
        m->serving = NULL;
        m->releasing->state = LEAVING;
        if (sb_channel_say(m->releasing->channel, SB_WORD_LEAVE, NULL))
            m->releasing = NULL;
    }
    let_go(m);
}

static void on_started(struct master *m, struct child *c)
{
    bool again = m->ever_started;

    c->state = SERVING;
    m->serving = c;
    m->coming = NULL;
    take_recipe(m);
    if (again)
        sb_notice("reloaded: process %d serves", (int)c->pid);
    else
        m->started(m->arg);
    m->ever_started = true;
    answer_asker(m, NULL);
    sb_startup_memory_release();
}

static void take_word(struct master *m, struct child *c, const struct sb_word *w)
{
    for (size_t i = 0; i < w->nfds; i++)
        sb_vec_push(&c->sockets, w->fds[i]);
    if (w->kind == SB_WORD_READY && c == m->coming) {
        on_ready(m, c);
    } else if (w->kind == SB_WORD_FAILED) {
        snprintf(m->trouble, sizeof m->trouble, "%s", w->text);
        c->failed = true;
    } else if (w->kind == SB_WORD_RELEASED && c == m->releasing) {
        m->releasing = NULL;
        snprintf(m->lent, sizeof m->lent, "%.63s", w->text);
        let_go(m);
    } else if (w->kind == SB_WORD_STARTED && c == m->coming) {
        on_started(m, c);
    }
}

static void hear(struct master *m, struct child *c)
{
    static struct sb_word w; /* large, and one at a time */
    enum sb_rc rc;

    while ((rc = sb_channel_hear(c->channel, false, &w)) == SB_OK)
        take_word(m, c, &w);
    if (rc == SB_IO) { /* SIGCHLD says how it ended */
        close(c->channel);
        c->channel = -1;
    }
}

/* -- how they end ------------------------------------------------------------------------------ */

static void forget(struct master *m, struct child *c)
{
    size_t n = 0;

    for (size_t i = 0; i < m->children.len; i++)
        if (m->children.p[i] != c)
            m->children.p[n++] = m->children.p[i];
    m->children.len = n;
    for (size_t i = 0; i < c->sockets.len; i++)
        close(c->sockets.p[i]);
    sb_vec_release(&c->sockets);
    if (c->channel >= 0)
        close(c->channel);
    free(c);
}

static void say_how(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "ended with code %d", WEXITSTATUS(status));
}

static void serving_crashed(struct master *m, const struct child *c, const char *how)
{
    m->serving = NULL;
    m->crashed = true;
    sb_log(SB_LOG_ALERT, "process %d %s; another one is started", (int)c->pid, how);
    if (sb_clock_ms() - c->since_ms > STEADY_MS)
        m->again_ms = 0;
    if (!m->coming)
        try_later(m);
}

static void coming_failed(struct master *m, const struct child *c, const char *how)
{
    static char why[SB_WORD_LEN_MAX + 1];

    snprintf(why, sizeof why, "%s", m->trouble);
    if (!c->failed)
        snprintf(why, sizeof why, "the new process %s before it served", how);
    m->crashed |= !c->failed;
    reload_failed(m, why);
}

static void on_end(struct master *m, struct child *c, int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    char how[128];

    if (c->channel >= 0)
        hear(m, c); /* its last words */
    say_how(status, how, sizeof how);
    if (c == m->releasing) {
        m->releasing = NULL;
        let_go(m);
    }
    if (m->stopping || c->state == LEAVING) {
        if (code && c != m->coming) {
            sb_log(SB_LOG_ALERT, "process %d %s", (int)c->pid, how);
            m->code = code;
        }
    } else if (c == m->coming) {
        coming_failed(m, c, how);
    } else if (c == m->serving) {
        serving_crashed(m, c, how);
    }
    forget(m, c);
}

static void reap(struct master *m)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < m->children.len; i++) {
            if (m->children.p[i]->pid == pid) {
                on_end(m, m->children.p[i], status);
                break;
            }
        }
    }
}

/* -- signals and questions --------------------------------------------------------------------- */

static void tell_all(struct master *m, int signal_number)
{
    for (size_t i = 0; i < m->children.len; i++) {
        struct child *c = m->children.p[i];
        bool hears = c->state == SERVING || c->state == LEAVING || signal_number == SIGUSR1;

        kill(c->pid, hears ? signal_number : SIGKILL); /* one on its way has nothing to lose */
    }
}

static void stop(struct master *m, int signal_number)
{
    sb_notice("%s", signal_number == SIGQUIT ? "stopping gracefully" : "stopping");
    m->stopping = m->told_to_stop = true;
    answer_asker(m, "the node is stopping");
    tell_all(m, signal_number);
}

/* The same recipe: its files may have changed. */
static void hang_up(struct master *m)
{
    if (m->coming)
        m->reload_again = true;
    else
        begin(m, m->recipe);
}

static void on_signal(struct master *m)
{
    struct signalfd_siginfo info;

    if (read(m->signals, &info, sizeof info) != sizeof info)
        return;
    switch (info.ssi_signo) {
    case SIGCHLD:
        reap(m);
        break;
    case SIGUSR1:
        sb_log_reopen();
        tell_all(m, SIGUSR1);
        break;
    case SIGHUP:
        if (!m->stopping)
            hang_up(m);
        break;
    default:
        stop(m, (int)info.ssi_signo);
        break;
    }
}

static void on_question(struct master *m)
{
    struct sb_arena *a = sb_arena_new(0);
    int fd = accept4(m->control, NULL, NULL, SOCK_CLOEXEC);
    struct sb_request q;

    if (fd >= 0 && sb_request_read(fd, a, &q)) {
        sb_request_answer(fd, "the question is malformed");
    } else if (fd >= 0) {
        m->asker = fd;
        begin(m, q.restart ? sb_recipe_new(m->options, m->prefix, q.conf, q.env)
                           : sb_recipe_reload(m->recipe, q.conf, q.env));
    }
    sb_arena_free(a);
}

/* -- the loop ---------------------------------------------------------------------------------- */

static int until_again(const struct master *m)
{
    int64_t left = m->again_at_ms - sb_clock_ms();

    if (!m->again_at_ms || m->stopping)
        return -1;
    return left > 0 ? (int)left : 0;
}

static void go_on(struct master *m)
{
    if (m->stopping || m->coming)
        return;
    if (m->reload_again && m->recipe) {
        m->reload_again = false;
        begin(m, m->recipe);
    } else if (m->again_at_ms && !m->serving && until_again(m) == 0) {
        begin(m, m->recipe);
    }
}

static void wait_once(struct master *m, struct pollfd *fds)
{
    size_t n = 0, children = m->children.len;
    bool asks = m->ever_started && !m->coming && !m->stopping;

    fds[n++] = (struct pollfd){.fd = m->signals, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = asks ? m->control : -1, .events = POLLIN};
    for (size_t i = 0; i < children; i++)
        fds[n++] = (struct pollfd){.fd = m->children.p[i]->channel, .events = POLLIN};
    if (poll(fds, n, until_again(m)) <= 0)
        return;
    for (size_t i = 0; i < children; i++)
        if (fds[2 + i].revents)
            hear(m, m->children.p[i]);
    if (fds[1].revents)
        on_question(m);
    if (fds[0].revents) /* last: it may change the list */
        on_signal(m);
}

static void loop(struct master *m)
{
    while (!m->stopping || m->children.len) {
        struct pollfd *fds = sb_xcalloc(m->children.len + 2, sizeof *fds);

        wait_once(m, fds);
        free(fds);
        go_on(m);
    }
}

/* Signals that the master waits for; the processes that serve inherit them blocked. */
static int block_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGCHLD};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

enum sb_rc sb_master_run(const struct sb_options *options, const char *prefix,
                         void (*started)(void *arg), void *arg, int *code, struct sb_err *err)
{
    struct master m = {
        .options = options, .prefix = prefix, .started = started, .arg = arg, .asker = -1};
    enum sb_rc rc = sb_prefix_write_pid(prefix, err);

    m.signals = block_signals();
    m.tickets = sb_tls_tickets_memory();
    if (!rc)
        rc = sb_request_listen(prefix, &m.control, err);
    if (rc)
        return rc;
    begin(&m, sb_recipe_new(options, prefix, options->conf, (const char *const *)environ));
    loop(&m);
    close_sockets(&m);
    sb_vec_release(&m.sockets);
    sb_vec_release(&m.children);
    close(m.control);
    close(m.signals);
    close(m.tickets);
    sb_recipe_free(m.recipe);
    sb_prefix_remove_pid(prefix);
    *code = m.code ? m.code : m.crashed;
    return m.ever_started || m.told_to_stop ? SB_OK : sb_err_set(err, SB_INVALID, "%s", m.trouble);
}

#define _GNU_SOURCE
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BYTES (128 * 1024)
#define EVENTS_AT_A_TIME 256
#define REOPEN_AFTER_NS 20000000u /* a server that refuses is not asked in a tight loop */
#define MAX_SETTLE_S 20.0 /* some servers tell a reader nothing before the first event */
#define MAX_BOUNDED_S 3600.0

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL && count * size > 0) {
        fprintf(stderr, "load: out of memory\n");
        exit(2);
    }
    return memory;
}

/* ---------------------------------------------------------------------------- requests */

void request_begin(struct connection *c)
{
    c->out.length = c->out_sent = 0;
}

void request_add(struct connection *c, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    buffer_append(&c->out, text, (size_t)length);
}

void request_line(struct connection *c, const char *method, uint64_t stream, const char *query)
{
    const struct group *g = c->group;
    request_begin(c);
    request_add(c, "%s %s/%s/%llu/%llu%s HTTP/1.1\r\nHost: %s:%d\r\n", method, g->run->prefix,
                g->options.name, (unsigned long long)stream / 1000, (unsigned long long)stream,
                query, g->run->host, g->run->port);
    if (g->run->token != NULL)
        request_add(c, "Authorization: Bearer %s\r\n", g->run->token);
}

void answered(struct connection *c, uint64_t bytes, uint64_t began_ns)
{
    struct report *report = &c->group->report;
    const struct run *run = c->group->run;
    report->checked++;
    if (run->phase != MEASURING)
        return;
    report->requests++;
    report->bytes += bytes;
    histogram_add(&report->latencies, run->now_ns - began_ns);
}

void fault(struct connection *c, const char *format, ...)
{
    struct report *report = &c->group->report;
    if (report->errors < MAX_KEPT_ERRORS) {
        char *text = report->first_errors[report->errors];
        int length = snprintf(text, MAX_ERROR_TEXT, "%s %u: ", c->group->role->name, c->number);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text + length, MAX_ERROR_TEXT - (size_t)length, format, arguments);
        va_end(arguments);
    }
    report->errors++;
}

void unexpected_status(struct connection *c, const char *request)
{
    fault(c, "%s was answered %d %s", request, c->response.status, c->refusal);
}

/* ------------------------------------------------------------------------- connections */

static void watch(struct connection *c, int operation, bool for_room)
{
    struct epoll_event event = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(c->group->run->epoll_fd, operation, c->fd, &event);
    c->watched_for_room = for_room;
}

static void drop(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->busy = false;
    c->reopen_ns = c->group->run->now_ns + REOPEN_AFTER_NS;
    c->group->run->any_closed = true;
}

static void lose(struct connection *c, const char *how)
{
    if (c->busy) {
        if (c->group->role->lost != NULL)
            c->group->role->lost(c);
        fault(c, "the connection was lost before the answer was complete: %s", how);
    }
    drop(c);
}

/* Blocks until the other side has room in its queue, which on one machine is at once. */
static bool open_connection(struct connection *c)
{
    const struct run *run = c->group->run;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)run->port)};
    inet_pton(AF_INET, run->host, &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fault(c, "no connection: %s", strerror(errno));
        drop(c);
        return false;
    }
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    http_begin(&c->response);
    watch(c, EPOLL_CTL_ADD, false);
    return true;
}

static void send_out(struct connection *c)
{
    while (c->out_sent < c->out.length) {
        ssize_t sent = send(c->fd, c->out.data + c->out_sent, c->out.length - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            lose(c, strerror(errno));
            return;
        }
        c->out_sent += (size_t)sent;
    }
    bool waiting = c->out_sent < c->out.length;
    if (waiting != c->watched_for_room)
        watch(c, EPOLL_CTL_MOD, waiting);
}

/* Send the next request of an idle connection, if it is time and there is one. */
static void pump(struct connection *c)
{
    struct group *g = c->group;
    struct run *run = g->run;
    if (c->busy || c->fd < 0)
        return;
    if ((run->phase == SETTLING && !g->role->early)
        || (run->phase == DRAINING && !g->role->tireless))
        return;
    if (g->options.rate > 0 && run->now_ns < g->due_ns)
        return;
    c->began_ns = clock_ns();
    if (!g->role->request(c))
        return;
    if (g->options.rate > 0) {
        uint64_t interval = (uint64_t)(1e9 / g->options.rate);
        g->due_ns = g->due_ns == 0 ? run->now_ns + interval : g->due_ns + interval;
        for (; g->due_ns < run->now_ns; g->due_ns += interval)
            g->missed++;
    }
    c->busy = true;
    c->refusal[0] = '\0';
    http_begin(&c->response);
    send_out(c);
}

static void keep_refusal(struct connection *c, const char *data, size_t length)
{
    size_t have = strlen(c->refusal);
    for (size_t i = 0; i < length && have < sizeof c->refusal - 1; i++) {
        unsigned char byte = (unsigned char)data[i];
        c->refusal[have++] = byte < ' ' || byte > '~' || byte == '"' || byte == '\\' ? ' ' : data[i];
    }
    c->refusal[have] = '\0';
}

static void complete(struct connection *c)
{
    bool close_it = c->response.close || http_ends_with_connection(&c->response);
    if (c->out_sent < c->out.length)
        close_it = true; /* answered before it was asked in full */
    c->busy = false;
    c->group->role->done(c);
    if (close_it)
        drop(c);
}

static void take_in(struct connection *c, const char *data, size_t length)
{
    for (;;) {
        const char *body;
        size_t body_length;
        switch (http_next(&c->response, &data, &length, &body, &body_length)) {
        case HTTP_MORE:
            return;
        case HTTP_HEAD:
            break;
        case HTTP_BODY:
            if (body_length == 0)
                break;
            if (c->response.status != 200)
                keep_refusal(c, body, body_length);
            else if (c->group->role->body != NULL)
                c->group->role->body(c, body, body_length);
            break;
        case HTTP_DONE:
            if (length > 0) {
                fault(c, "%zu bytes follow an answer", length);
                complete(c);
                drop(c);
                return;
            }
            complete(c);
            pump(c);
            return;
        case HTTP_BAD:
            lose(c, "what came is no HTTP");
            return;
        }
    }
}

static void receive(struct connection *c, char *buffer)
{
    struct run *run = c->group->run;
    ssize_t count = recv(c->fd, buffer, RECEIVE_BYTES, 0);
    run->now_ns = clock_ns();
    if (count > 0 && !c->busy) {
        fault(c, "%zd bytes that nobody asked for", count);
        drop(c);
    } else if (count > 0) {
        take_in(c, buffer, (size_t)count);
    } else if (count == 0 && c->busy && http_ends_with_connection(&c->response)) {
        complete(c);
        drop(c);
    } else if (count == 0 || errno != EAGAIN) {
        lose(c, count == 0 ? "closed by the server" : strerror(errno));
    }
}

/* -------------------------------------------------------------------------------- loop */

typedef void visit(struct connection *connection, void *context);

static void each(struct run *run, visit *visitor, void *context)
{
    for (size_t g = 0; g < run->group_count; g++)
        for (uint32_t i = 0; i < run->groups[g].options.connections; i++)
            visitor(&run->groups[g].connections[i], context);
}

static void pump_visit(struct connection *c, void *context)
{
    (void)context;
    pump(c);
}

static void reopen_visit(struct connection *c, void *context)
{
    (void)context;
    struct run *run = c->group->run;
    if (c->fd >= 0)
        return;
    if (run->phase == DRAINING && !c->group->role->tireless)
        return;
    if (run->now_ns < c->reopen_ns)
        run->any_closed = true;
    else if (open_connection(c))
        pump(c);
}

static void count_visit(struct connection *c, void *count)
{
    *(uint64_t *)count += c->busy && !c->group->role->tireless;
}

static void unready_visit(struct connection *c, void *count)
{
    *(uint64_t *)count += c->group->role->ready != NULL && !c->group->role->ready(c);
}

static void give_up_visit(struct connection *c, void *context)
{
    (void)context;
    if (c->busy && !c->group->role->tireless) {
        if (c->group->role->lost != NULL)
            c->group->role->lost(c);
        fault(c, "no answer within the time that is granted after the end");
    }
}

static void enter(struct run *run, enum phase phase, double seconds)
{
    run->phase = phase;
    run->phase_end_ns = run->now_ns + (uint64_t)(seconds * 1e9);
    if (phase == MEASURING) {
        run->measure_begin_ns = run->now_ns;
        run->cpu_known = run->watched != 0 && cpu_time_of(run->watched, &run->cpu_begin);
    }
    if (phase == DRAINING) {
        run->measure_end_ns = run->now_ns;
        run->cpu_known = run->cpu_known && cpu_time_of(run->watched, &run->cpu_end);
    } else {
        each(run, pump_visit, NULL);
    }
}

static bool ends_by_itself(const struct run *run)
{
    for (size_t g = 0; g < run->group_count; g++)
        if (!run->groups[g].bounded)
            return false;
    return true;
}

static bool all_warm(const struct run *run)
{
    for (size_t g = 0; g < run->group_count; g++) {
        const struct group *group = &run->groups[g];
        if (group->role->warm != NULL && !group->role->warm(group))
            return false;
    }
    return true;
}

static bool all_satisfied(struct run *run, bool final)
{
    bool all = true;
    for (size_t g = 0; g < run->group_count; g++) {
        struct group *group = &run->groups[g];
        if (group->role->satisfied != NULL && !group->role->satisfied(group, final))
            all = false;
    }
    return all;
}

/* Go to the next phase if it is time; false once all is over. */
static bool advance(struct run *run)
{
    uint64_t count = 0;
    bool over = run->now_ns >= run->phase_end_ns;
    bool bounded = ends_by_itself(run);
    switch (run->phase) {
    case SETTLING:
        if (!over || run->hold)
            break;
        each(run, unready_visit, &count);
        if (count == 0 || run->now_ns > run->phase_end_ns + (uint64_t)(MAX_SETTLE_S * 1e9))
            enter(run, bounded ? MEASURING : WARMING, bounded ? MAX_BOUNDED_S : run->warmup_s);
        break;
    case WARMING:
        if (over
            && (all_warm(run) || run->now_ns > run->phase_end_ns + (uint64_t)(run->patience_s * 1e9)))
            enter(run, MEASURING, run->seconds);
        break;
    case MEASURING:
        if (bounded) {
            each(run, count_visit, &count);
            over = over || (count == 0 && !run->any_closed);
        }
        if (over)
            enter(run, DRAINING, run->grace_s);
        break;
    case DRAINING:
        each(run, count_visit, &count);
        if (count == 0 && all_satisfied(run, false))
            return false;
        if (over) {
            each(run, give_up_visit, NULL);
            all_satisfied(run, true);
            return false;
        }
        break;
    }
    return true;
}

/* Requests that have a time of their own are sent from here. */
static void pump_rated(struct run *run)
{
    for (size_t g = 0; g < run->group_count; g++)
        if (run->groups[g].options.rate > 0)
            for (uint32_t i = 0; i < run->groups[g].options.connections; i++)
                pump(&run->groups[g].connections[i]);
}

static int timeout_ms(const struct run *run)
{
    uint64_t until = run->now_ns + 10000000u; /* the phases are looked at every 10 ms */
    for (size_t g = 0; g < run->group_count; g++)
        if (run->groups[g].options.rate > 0 && run->groups[g].due_ns < until)
            until = run->groups[g].due_ns;
    return until <= run->now_ns ? 1 : (int)((until - run->now_ns + 999999u) / 1000000u);
}

static void start(struct run *run)
{
    run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    run->now_ns = clock_ns();
    for (size_t g = 0; g < run->group_count; g++) {
        struct group *group = &run->groups[g];
        group->run = run;
        group->connections = allocate(group->options.connections, sizeof *group->connections);
        for (uint32_t i = 0; i < group->options.connections; i++) {
            struct connection *c = &group->connections[i];
            *c = (struct connection){.group = group, .number = i, .fd = -1};
            c->state = allocate(1, group->role->state_size);
        }
        if (group->role->start != NULL)
            group->role->start(group);
    }
    run->phase = SETTLING;
    each(run, reopen_visit, NULL);
    run->now_ns = clock_ns();
    enter(run, SETTLING, run->settle_s);
    if (run->hold) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    }
}

/* Standard input ended: nobody wants the connections any longer. */
static void release(struct run *run)
{
    uint64_t unready = 0;
    each(run, unready_visit, &unready);
    if (unready > 0)
        fault(&run->groups[0].connections[0], "%llu connections never became ready",
              (unsigned long long)unready);
}

void run_groups(struct run *run)
{
    char *buffer = allocate(1, RECEIVE_BYTES);
    struct epoll_event events[EVENTS_AT_A_TIME];
    bool told = !run->hold;
    uint64_t next_look_ns = 0;
    start(run);
    for (;;) {
        int count = epoll_wait(run->epoll_fd, events, EVENTS_AT_A_TIME, timeout_ms(run));
        run->now_ns = clock_ns();
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                release(run);
                return;
            }
            if (c->fd >= 0 && (events[i].events & EPOLLOUT) != 0)
                send_out(c);
            if (c->fd >= 0 && (events[i].events & ~(unsigned)EPOLLOUT) != 0)
                receive(c, buffer);
        }
        pump_rated(run);
        if (run->now_ns < next_look_ns)
            continue;
        next_look_ns = run->now_ns + 5000000u;
        if (run->any_closed) {
            run->any_closed = false;
            each(run, reopen_visit, NULL);
        }
        if (!told && run->now_ns >= run->phase_end_ns) {
            uint64_t unready = 0;
            each(run, unready_visit, &unready);
            told = unready == 0;
            if (told && puts("{\"ready\": true}") >= 0)
                fflush(stdout);
        }
        if (!advance(run))
            break;
    }
    free(buffer);
}

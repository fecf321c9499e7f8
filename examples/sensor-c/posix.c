#define _POSIX_C_SOURCE 200809L
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int would_block(void) { return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOTCONN || errno == EINPROGRESS; }

static int link_send(void *io, const uint8_t *data, size_t length) {
    posix_link *link = io;
    ssize_t sent = send(link->fd, data, length, MSG_NOSIGNAL);
    return sent >= 0 ? (int)sent : would_block() ? 0 : -1;
}

static int link_receive(void *io, uint8_t *data, size_t length) {
    posix_link *link = io;
    ssize_t got = recv(link->fd, data, length, 0);
    return got > 0 ? (int)got : got < 0 && would_block() ? 0 : -1;
}

static uint64_t clock_ms(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static uint32_t link_now(void *io) {
    (void)io;
    return (uint32_t)clock_ms(CLOCK_MONOTONIC);
}

uint64_t posix_utc(void) { return clock_ms(CLOCK_REALTIME); }

void posix_sleep(unsigned ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000L};
    nanosleep(&t, NULL);
}

fleet_port posix_port(posix_link *link) {
    fleet_port port = {link, link_send, link_receive, link_now, NULL};
    return port;
}

bool posix_open(posix_link *link) {
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    link->fd = -1;
    if (getaddrinfo(link->host, link->port, &hints, &found) != 0) return false;
    /* Each time the next one: `localhost` may be ::1 first, and the server only on 127.0.0.1. */
    unsigned count = 0, at = link->opened++;
    for (struct addrinfo *a = found; a; a = a->ai_next) count++;
    struct addrinfo *address = found;
    for (at %= count; at; at--) address = address->ai_next;
    link->fd = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
    if (link->fd >= 0) {
        fcntl(link->fd, F_SETFL, fcntl(link->fd, F_GETFL) | O_NONBLOCK);
        if (connect(link->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) posix_close(link);
    }
    freeaddrinfo(found);
    return link->fd >= 0;
}

void posix_close(posix_link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

void posix_poll(fleet_sensor *sensor, posix_link *link) {
    switch (fleet_sensor_poll(sensor)) {
    case FLEET_NOTHING: break;
    case FLEET_OPEN:
        if (posix_open(link)) fleet_sensor_opened(sensor);
        else fleet_sensor_closed(sensor);
        break;
    case FLEET_CLOSE: posix_close(link); break;
    case FLEET_SECURE: /* asked of a link that can't */
        posix_close(link);
        fleet_sensor_closed(sensor);
        break;
    }
}

static void tell_unanswered(const char *program, const fleet_sensor *s, const char *last, bool refused, bool *told) {
    if (refused && !*told)
        fprintf(stderr, "%s: no stream takes fleet.%s.%s.%s: %d sends without an answer\n", program, s->config.cell,
                s->config.vehicle, last, FLEET_TRIES);
    *told = refused;
}

void posix_tell(const char *program, const fleet_sensor *s, posix_told *told) {
    if (s->errors != told->errors) fprintf(stderr, "%s: the server says %s\n", program, s->error);
    told->errors = s->errors;
    tell_unanswered(program, s, s->config.signal, s->unanswered == FLEET_TRIES, &told->samples);
    tell_unanswered(program, s, "on, or off", s->life_unanswered == FLEET_TRIES, &told->life);
}

bool posix_done(const fleet_sensor *s) {
    bool samples = s->count == 0 || s->unanswered == FLEET_TRIES;
    bool life = (!s->leaving && (s->life == 0 || s->life_acknowledged)) || s->life_unanswered == FLEET_TRIES;
    return samples && life;
}

bool posix_lines_open(posix_lines *lines, const char *path) {
    lines->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY);
    lines->length = 0;
    lines->ended = false;
    if (lines->fd >= 0) fcntl(lines->fd, F_SETFL, fcntl(lines->fd, F_GETFL) | O_NONBLOCK);
    return lines->fd >= 0;
}

int posix_lines_next(posix_lines *lines, char *out, size_t size) {
    char *end = memchr(lines->text, '\n', lines->length);
    if (!end && !lines->ended && lines->length < sizeof lines->text) {
        ssize_t got = read(lines->fd, lines->text + lines->length, sizeof lines->text - lines->length);
        if (got > 0) lines->length += (size_t)got;
        else lines->ended = got == 0 || !would_block();
        end = memchr(lines->text, '\n', lines->length);
    }
    if (!end && !lines->ended && lines->length < sizeof lines->text) return 0;
    if (lines->length == 0) return -1;
    /* A last line without its end, or one that is too long, goes as it is. */
    size_t whole = end ? (size_t)(end - lines->text) + 1 : lines->length;
    size_t kept = whole < size ? whole : size - 1;
    memcpy(out, lines->text, kept);
    out[kept] = 0;
    lines->length -= whole;
    memmove(lines->text, lines->text + whole, lines->length);
    return 1;
}

const char *posix_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int posix_fields(char *line, char **fields, int most) {
    int found = 1;
    line[strcspn(line, "\r\n")] = 0;
    fields[0] = line;
    for (char *c = line; *c; c++) {
        if (*c != ',') continue;
        *c = 0;
        if (found == most) break;
        fields[found++] = c + 1;
    }
    return found;
}

bool posix_url(char *url, posix_link *link, fleet_config *config) {
    if (strncmp(url, "nats://", 7) == 0) url += 7;
    if (strncmp(url, "tls://", 6) == 0) return false;
    char *at = strrchr(url, '@');
    if (at) {
        *at = 0;
        char *colon = strchr(url, ':');
        if (!colon) return false;
        *colon = 0;
        config->user = url;
        config->password = colon + 1;
        url = at + 1;
    }
    char *colon = strrchr(url, ':');
    if (colon) *colon = 0;
    link->host = url;
    link->port = colon ? colon + 1 : "4222";
    link->fd = -1;
    return *link->host && *link->port;
}

bool posix_scaled(const char *text, int scale, int32_t *out) {
    bool negative = *text == '-', digits = false, point = false;
    int64_t value = 0;
    int places = 0, round = 0;
    for (text += negative; *text && *text != '\r' && *text != '\n'; text++) {
        if (*text == '.' && !point) point = true;
        else if (*text < '0' || *text > '9') return false;
        else {
            digits = true;
            if (!point || places < scale) value = value * 10 + (*text - '0');
            else if (places == scale) round = *text >= '5';
            places += point;
            if (value > INT64_MAX / 100) return false;
        }
    }
    for (; places < scale && value <= INT32_MAX; places++) value *= 10;
    value = negative ? -(value + round) : value + round;
    if (!digits || value > INT32_MAX || value < INT32_MIN) return false;
    *out = (int32_t)value;
    return true;
}

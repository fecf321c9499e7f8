/* Any bytes as what the server says, in any pieces: a libFuzzer target, which `check` also links. The input's
 * first byte says how the client is set up, the next three, in turn, how long the pieces are, whether they end
 * with a line, and whether the client is polled before the next one comes; the rest is said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleet_sensor.h"

#define REQUIRE(what) do { if (!(what)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); abort(); } } while (0)

enum { TLS = 1, JWT = 2, PARTS = 4, OFF = 8, HEAD = 4, SAMPLES = 12 };
enum { CUT_LENGTH = 31, CUT_LINE = 32, CUT_PAUSE = 64 };
#define NOON UINT64_C(1735689600000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* The server, and what it makes of the client's words. */
typedef struct {
    const uint8_t *data, *cuts;
    size_t length, at, turn, sent;
    uint32_t now;
    bool blocked, parts, connected, pause;
    char line[2048];
    size_t line_length, body;
} server;

/* Every command is one of those there are, and a publish as long as it says. */
static void end_of_line(server *s) {
    char *line = s->line;
    line[s->line_length] = 0;
    s->line_length = 0;
    if (strncmp(line, "CONNECT {", 9) == 0) {
        REQUIRE(!s->connected && line[strlen(line) - 1] == '}');
        s->connected = true;
        return;
    }
    REQUIRE(s->connected);
    if (strcmp(line, "PING") == 0 || strcmp(line, "PONG") == 0 || strcmp(line, "SUB _INBOX.V.speed.* 1") == 0) return;
    bool headers = strncmp(line, "HPUB fleet.0.V.speed _INBOX.V.speed.", 36) == 0;
    REQUIRE(headers || strncmp(line, "PUB fleet.0.V.", 14) == 0);
    s->body = strtoul(strrchr(line, ' '), NULL, 10) + 2;
    REQUIRE(s->body <= FLEET_BUFFER);
    if (headers) REQUIRE(strstr(line, " 51 "));
}

static void hear(server *s, char c) {
    if (s->body) {
        s->body--;
        if (s->body == 1) REQUIRE(c == '\r');
        if (s->body == 0) REQUIRE(c == '\n');
        return;
    }
    REQUIRE(s->line_length < sizeof s->line - 1);
    if (c != '\n') {
        s->line[s->line_length++] = c;
        return;
    }
    REQUIRE(s->line_length && s->line[--s->line_length] == '\r');
    end_of_line(s);
}

static int take(void *io, const uint8_t *data, size_t length) {
    server *s = io;
    REQUIRE(length > 0);
    if (s->blocked) return 0;
    size_t taken = s->parts && ++s->sent % 3 == 0 ? (length + 1) / 2 : length;
    for (size_t i = 0; i < taken; i++) hear(s, (char)data[i]);
    return (int)taken;
}

static int give(void *io, uint8_t *data, size_t length) {
    server *s = io;
    size_t left = s->length - s->at;
    bool pause = s->pause;
    s->pause = false;
    if (left == 0 || pause) return 0;
    uint8_t cut = s->cuts ? s->cuts[s->turn++ % 3] : CUT_LENGTH;
    size_t piece = 1u + (cut & CUT_LENGTH);
    if (piece > length) piece = length;
    if (piece > left) piece = left;
    const uint8_t *line = memchr(s->data + s->at, '\n', piece);
    if (line && cut & CUT_LINE) piece = (size_t)(line - s->data) + 1 - s->at;
    s->pause = cut & CUT_PAUSE;
    memcpy(data, s->data + s->at, piece);
    s->at += piece;
    return (int)piece;
}

static uint32_t now(void *io) { return ((server *)io)->now; }

static int sign(void *io, const char *nonce, char *out) {
    (void)io;
    REQUIRE(strlen(nonce) < 48);
    memset(out, 'A', 86);
    out[86] = 0;
    return 0;
}

static void check(const fleet_sensor *s) {
    /* Whatever was said, nothing is lost without being counted. */
    REQUIRE(s->pushed == s->acknowledged + s->dropped + s->count);
    REQUIRE(s->count <= s->capacity && s->tail < s->capacity && s->flights <= FLEET_WINDOW);
    uint32_t flying = 0;
    for (uint8_t i = 0; i < s->flights; i++) flying += s->flight[i].count;
    REQUIRE(flying <= s->count);
    REQUIRE(s->out_length <= sizeof s->out && s->out_sent <= s->out_length);
    REQUIRE(s->op_length <= sizeof s->op && s->tail_length <= sizeof s->tail_of && s->body_length <= sizeof s->body);
    REQUIRE(s->nonce_length < sizeof s->nonce && memchr(s->error, 0, sizeof s->error));
}

static uint8_t ring[FLEET_RING(SAMPLES, FLEET_SPEED)];

static void begin(fleet_sensor *sensor, server *s, uint8_t setup) {
    static char jwt[700];
    fleet_port port = {s, take, give, now, sign};
    fleet_config config;
    memset(&config, 0, sizeof config);
    memset(jwt, 'j', sizeof jwt - 1);
    config.cell = "0", config.vehicle = "V", config.signal = "speed", config.columns = 1, config.bytes = 2;
    config.batch = 4, config.seed = 7, config.ring = ring, config.ring_bytes = sizeof ring;
    config.tls = setup & TLS;
    if (setup & JWT) config.jwt = jwt;
    else config.nkey = "UABC";
    s->now = 0xFFFFF000u, s->parts = setup & PARTS;
    REQUIRE(fleet_sensor_init(sensor, &config, &port) == 0);
}

/* Links that open and break, while samples come. */
static void course(const uint8_t *cuts, uint8_t setup, const uint8_t *said, size_t length) {
    static server s;
    static fleet_sensor sensor;
    memset(&s, 0, sizeof s);
    s.data = said, s.length = length, s.cuts = cuts;
    begin(&sensor, &s, setup);
    fleet_sensor_on(&sensor, NOON);
    bool plain = true;
    for (int round = 0; round < 40; round++) {
        if (round < 2 * SAMPLES)
            REQUIRE(fleet_sensor_push(&sensor, NOON + (uint64_t)round * 100u, &(int32_t){round}));
        if (round == 30 && setup & OFF) fleet_sensor_off(&sensor);
        switch (fleet_sensor_poll(&sensor)) {
        case FLEET_OPEN:
            s.at = s.line_length = s.body = 0, s.connected = s.pause = false, plain = setup & TLS;
            fleet_sensor_opened(&sensor);
            break;
        case FLEET_SECURE:
            /* INFO was the last that came in plain. */
            REQUIRE(plain && setup & TLS && s.at > 0 && said[s.at - 1] == '\n');
            if (round % 7) plain = false, fleet_sensor_secured(&sensor);
            else fleet_sensor_closed(&sensor);
            break;
        case FLEET_CLOSE:
        case FLEET_NOTHING: break;
        }
        /* A login only goes where it is safe. */
        REQUIRE(!(plain && s.connected));
        s.now += 400;
        check(&sensor);
    }
}

/* Frames under way, and nothing more that could go: all that changes is what the server's words change. */
static void listen(fleet_sensor *sensor, server *s, const uint8_t *cuts, const uint8_t *said, size_t length) {
    static const char hello[] = "INFO {\"headers\":true,\"nonce\":\"n\"}\r\n", pong[] = "PONG\r\n";
    memset(s, 0, sizeof *s);
    memset(sensor, 0, sizeof *sensor);
    begin(sensor, s, 0);
    for (int i = 0; i < SAMPLES; i++) REQUIRE(fleet_sensor_push(sensor, NOON + (uint64_t)i, &(int32_t){i}));
    REQUIRE(fleet_sensor_poll(sensor) == FLEET_OPEN);
    fleet_sensor_opened(sensor);
    s->data = (const uint8_t *)hello, s->length = sizeof hello - 1;
    fleet_sensor_poll(sensor);
    s->data = (const uint8_t *)pong, s->at = 0, s->length = sizeof pong - 1;
    fleet_sensor_poll(sensor);
    REQUIRE(sensor->flights == SAMPLES / 4 && sensor->out_length == 0);
    s->data = NULL, s->at = s->length = 0, s->blocked = true, s->now += FLEET_PING_EVERY;
    fleet_sensor_poll(sensor);
    REQUIRE(sensor->out_length > 0 && sensor->out_sent == 0);
    s->data = said, s->length = length, s->cuts = cuts;
    while (s->at < length) {
        REQUIRE(fleet_sensor_poll(sensor) == FLEET_NOTHING);
        check(sensor);
    }
    s->data = s->cuts = NULL, s->turn = 0, s->pause = false;
}

/* A CR is passed over wherever it stands, as the client does. */
static bool contains(const uint8_t *said, size_t length, const char *what) {
    for (size_t from = 0; from < length; from++) {
        size_t found = 0;
        for (size_t at = from; at < length && (said[at] == (uint8_t)what[found] || said[at] == '\r'); at++)
            if (said[at] != '\r' && !what[++found]) return true;
    }
    return false;
}

/* How the server's words are cut makes no difference, and only what it named is acknowledged. */
static void same_in_pieces(const uint8_t *cuts, const uint8_t *said, size_t length) {
    static server s;
    static fleet_sensor sensor, whole;
    listen(&sensor, &s, NULL, said, length);
    whole = sensor;
    listen(&sensor, &s, cuts, said, length);
    REQUIRE(memcmp(&sensor, &whole, sizeof whole) == 0);
    char name[16];
    for (unsigned i = 0; i < sensor.acknowledged / 4; i++) {
        snprintf(name, sizeof name, "%04x%04x", sensor.salt, i);
        REQUIRE(contains(said, length, name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
    if (length < HEAD) return 0;
    course(data + 1, data[0], data + HEAD, length - HEAD);
    same_in_pieces(data + 1, data + HEAD, length - HEAD);
    return 0;
}

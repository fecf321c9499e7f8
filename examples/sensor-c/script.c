#include "script.h"

int script_send(void *io, const uint8_t *data, size_t length) {
    script *s = io;
    if (s->blocked || s->gone) return s->gone ? -1 : 0;
    /* Now and then only a part. */
    size_t taken = ++s->sent % 3 == 0 ? (length + 1) / 2 : length;
    REQUIRE(s->hearing + taken <= sizeof s->heard);
    memcpy(s->heard + s->hearing, data, taken);
    s->hearing += taken;
    return (int)taken;
}

int script_receive(void *io, uint8_t *data, size_t length) {
    script *s = io;
    size_t left = s->length - s->at, piece = s->piece < length ? s->piece : length;
    if (left == 0) return 0;
    if (piece > left) piece = left;
    memcpy(data, s->data + s->at, piece);
    s->at += piece;
    return (int)piece;
}

int script_sign(void *io, const char *nonce, char *out) {
    (void)io, (void)nonce, (void)out;
    return -1;
}

uint32_t script_now(void *io) { return ((script *)io)->now; }

fleet_config speed_config(uint8_t *ring, size_t ring_bytes) {
    fleet_config config;
    memset(&config, 0, sizeof config);
    config.cell = "0", config.vehicle = "V", config.signal = "speed", config.columns = 1, config.bytes = 2;
    config.batch = 4, config.seed = 7, config.ring = ring, config.ring_bytes = ring_bytes;
    return config;
}

fleet_sensor sensor_of(script *server, uint8_t *ring, size_t ring_bytes) {
    fleet_port port = {server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, ring_bytes);
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    return sensor;
}

void say(script *server, const char *text) {
    server->data = (const uint8_t *)text, server->length = strlen(text), server->at = 0;
}

void run(fleet_sensor *sensor, script *server, uint32_t ms) {
    for (uint32_t end = server->now + ms; server->now != end; server->now += 10)
        if (fleet_sensor_poll(sensor) == FLEET_OPEN) fleet_sensor_opened(sensor);
}

/* Frames have zeros in them. */
const char *nth(const script *server, int n, const char *text) {
    size_t length = strlen(text);
    for (size_t at = 0; at + length <= server->hearing; at++)
        if (memcmp(server->heard + at, text, length) == 0 && --n == 0) return server->heard + at + length;
    return NULL;
}

int times(const script *server, const char *text) {
    int found = 0;
    while (nth(server, found + 1, text)) found++;
    return found;
}

bool heard(const script *server, const char *text) { return nth(server, 1, text) != NULL; }


void push(fleet_sensor *sensor, uint64_t ms, int32_t count) { REQUIRE(fleet_sensor_push(sensor, ms, &count)); }

void answer(fleet_sensor *sensor, script *server, const char *token, const char *body) {
    char text[128];
    int length = snprintf(text, sizeof text, "MSG _INBOX.V.speed.%s 1 %zu\r\n%s\r\n", token, strlen(body), body);
    REQUIRE(length > 0 && length < (int)sizeof text);
    say(server, text);
    run(sensor, server, 100);
    REQUIRE(server->at == server->length);
}

void store(fleet_sensor *sensor, script *server, const char *token) {
    answer(sensor, server, token, "{\"stream\":\"T\",\"seq\":1}");
}

void store_frame(fleet_sensor *sensor, script *server, unsigned sequence) {
    char token[16];
    snprintf(token, sizeof token, "%04x%04x", sensor->salt, sequence);
    store(sensor, server, token);
}

void greet(fleet_sensor *sensor, script *server) {
    say(server, "INFO {\"headers\":true}\r\n");
    run(sensor, server, 100);
    say(server, "PONG\r\n");
    run(sensor, server, 100);
    REQUIRE(server->at == server->length && sensor->failures == 0);
}

void welcome(fleet_sensor *sensor, script *server) {
    while (fleet_sensor_poll(sensor) != FLEET_OPEN) server->now += 10;
    fleet_sensor_opened(sensor);
    greet(sensor, server);
}

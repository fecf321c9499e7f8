/* Servers that say much, little and nothing, for `check cases`. */
#include "script.h"

void link_cases(void);

/* INFO of 4 KiB, a byte at a time, and what follows from it. */
static void long_info(void) {
    static script server;
    static char info[4200] = "INFO {\"server_id\":\"";
    uint8_t ring[FLEET_RING(8, 1, 2)];
    memset(info + strlen(info), 'x', 4000);
    strcat(info, "\",\"headers\":true,\"max_payload\":1048576}\r\n");
    server.piece = 1;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    say(&server, info);
    for (int i = 0; i < 4; i++) push(&sensor, NOON + (uint64_t)i, i);
    run(&sensor, &server, 1500);
    REQUIRE(heard(&server, "CONNECT {") && heard(&server, "SUB _INBOX.V.speed.* 1\r\nPING\r\n"));
    REQUIRE(!heard(&server, "PUB "));
    say(&server, "PO");
    run(&sensor, &server, 100);
    say(&server, "NG\r\n");
    run(&sensor, &server, 100);
    /* Samples wait for 2 s after `on`, and then go with an id, because the server takes headers. */
    REQUIRE(heard(&server, ON) && !heard(&server, PUBLISHED));
    run(&sensor, &server, 2000);
    REQUIRE(heard(&server, PUBLISHED) && heard(&server, "Nats-Msg-Id: ") == FLEET_MSG_ID);
    REQUIRE(sensor.count == 4 && !fleet_sensor_idle(&sensor));
    /* Neither an error nor anything else that has an answer is a stream's word. */
    char token[16];
    snprintf(token, sizeof token, "%04x%04x", sensor.salt, 0);
    answer(&sensor, &server, token, "{\"error\":{\"code\":503}}");
    answer(&sensor, &server, token, "+OK, thank you");
    run(&sensor, &server, 6000);
    REQUIRE(sensor.acknowledged == 0 && sensor.resent > 0);
    store(&sensor, &server, token);
    REQUIRE(sensor.acknowledged == 4 && sensor.count == 0 && !fleet_sensor_idle(&sensor));
    store(&sensor, &server, "on");
    REQUIRE(fleet_sensor_idle(&sensor));
}

/* PING is answered; a server that no longer answers ours is left, and a link that breaks too. */
static void dead_links(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    welcome(&sensor, &server);
    say(&server, "PING\r\n");
    run(&sensor, &server, 100);
    REQUIRE(times(&server, "PONG\r\n") == 1);
    server.hearing = 0;
    run(&sensor, &server, 29000);
    REQUIRE(!heard(&server, "PING\r\n"));
    run(&sensor, &server, 2000);
    REQUIRE(times(&server, "PING\r\n") == 1);
    say(&server, "PONG\r\n");
    run(&sensor, &server, 60000);
    REQUIRE(times(&server, "PING\r\n") == 3 && sensor.connects == 1);
    run(&sensor, &server, 40000);
    REQUIRE(sensor.connects > 1);
    /* Too full for now, then gone. */
    welcome(&sensor, &server);
    uint32_t connects = sensor.connects;
    server.hearing = 0, server.blocked = true;
    push(&sensor, NOON, 1);
    run(&sensor, &server, 1000);
    REQUIRE(server.hearing == 0 && sensor.connects == connects);
    server.gone = true;
    while (fleet_sensor_poll(&sensor) != FLEET_CLOSE) {}
    server.blocked = server.gone = false;
    welcome(&sensor, &server);
    REQUIRE(times(&server, PUBLISHED) == 1 && sensor.count == 1);
}

/* The pauses between links that can't be opened double up to a minute, and are each sensor's own. */
static void back_off(void) {
    static script server;
    uint32_t pauses[2][9];
    for (uint32_t seed = 1; seed <= 2; seed++) {
        uint8_t ring[FLEET_RING(8, 1, 2)];
        fleet_config config = speed_config(ring, sizeof ring);
        config.seed = seed;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        REQUIRE(fleet_sensor_poll(&sensor) == FLEET_OPEN);
        for (uint32_t n = 0, most = 1000; n < 9; n++, most = n < 6 ? 1000u << n : FLEET_BACKOFF_MAX) {
            uint32_t begun = server.now;
            fleet_sensor_closed(&sensor);
            while (fleet_sensor_poll(&sensor) != FLEET_OPEN) server.now++;
            pauses[seed - 1][n] = server.now - begun;
            REQUIRE(pauses[seed - 1][n] >= most / 2 && pauses[seed - 1][n] <= most);
        }
    }
    for (int n = 0; n < 9; n++) REQUIRE(pauses[0][n] != pauses[1][n]);
}

/* What logs in is JSON whatever is in it and however long it is, and what the server refuses is kept. */
static void logins(void) {
    static script server;
    static char token[1500];
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, sizeof ring);
    config.user = "a\"b", config.password = "c\\";
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    REQUIRE(heard(&server, "\"headers\":true,\"user\":\"a\\\"b\",\"pass\":\"c\\\\\"}\r\nSUB _INBOX.V.speed.* 1\r\nPING\r\n"));
    for (size_t i = 0; i < 700; i++) token[i] = i % 3 ? '"' : 'x';
    config.user = config.password = NULL, config.token = token;
    server.hearing = 0;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    static char expected[2000] = ",\"auth_token\":\"";
    for (size_t i = 0; i < 700; i++) strcat(expected, token[i] == 'x' ? "x" : "\\\"");
    strcat(expected, "\"}\r\nSUB ");
    REQUIRE(heard(&server, expected));
    say(&server, "-ERR 'Authorization Violation'\r\n");
    run(&sensor, &server, 100);
    REQUIRE(sensor.errors == 1 && strcmp(sensor.error, "'Authorization Violation'") == 0);
    /* Of a long one its end, with the subject; a short one that follows has nothing of it. */
    static const char violation[] = "'Permissions Violation for Publish to \"fleet.0.WDB9634031L123456.position\"'";
    static const char subject[] = "fleet.0.WDB9634031L123456.position\"'";
    say(&server, "-ERR 'Permissions Violation for Publish to \"fleet.0.WDB9634031L123456.position\"'\r\n");
    run(&sensor, &server, 100);
    size_t kept = strlen(sensor.error);
    REQUIRE(sensor.errors == 2 && kept >= strlen(subject));
    REQUIRE(strcmp(sensor.error, violation + strlen(violation) - kept) == 0);
    say(&server, "-ERR 'Stale Connection'\r\n");
    run(&sensor, &server, 100);
    REQUIRE(sensor.errors == 3 && strcmp(sensor.error, "'Stale Connection'") == 0);
}

/* The longest names that leave room for a sample: all that there is to say fits. */
static void longest_names(void) {
    static script server;
    static char name[65];
    uint8_t ring[FLEET_RING(64, 1, 1)];
    int longest = 0;
    for (int length = 1; length <= 64; length++) {
        memset(&server, 0, sizeof server);
        server.piece = 64;
        memset(name, 'n', sizeof name);
        name[length] = 0;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_config config = speed_config(ring, sizeof ring);
        config.cell = config.vehicle = name, config.bytes = 1, config.batch = 64;
        /* A signal of one letter leaves least for `on`, one as long as the others for frames. */
        config.signal = length % 2 ? "s" : name;
        fleet_sensor sensor;
        if (fleet_sensor_init(&sensor, &config, &port)) continue;
        longest = length;
        fleet_sensor_on(&sensor, (UINT64_C(1) << 48) - 1);
        for (int i = 0; i < 64; i++) push(&sensor, NOON, i);
        welcome(&sensor, &server);
        run(&sensor, &server, 3000);
        REQUIRE(heard(&server, "{\"since\":281474976710655}\r\n") && sensor.flights > 0);
        fleet_sensor_off(&sensor);
    }
    REQUIRE(longest > 20);
}

/* Not a word before TLS, and nothing of what stands between INFO and TLS. */
static void secured(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_config config = speed_config(ring, sizeof ring);
    config.token = "s3cret", config.tls = true;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_OPEN);
    fleet_sensor_opened(&sensor);
    say(&server, "INFO {}\r\n");
    fleet_sensor_poll(&sensor);
    for (int i = 0; i < 5; i++) REQUIRE(fleet_sensor_poll(&sensor) == FLEET_SECURE);
    REQUIRE(server.hearing == 0);
    fleet_sensor_secured(&sensor);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_NOTHING && heard(&server, "s3cret"));
    /* A server that keeps the handshake waiting is given up. */
    fleet_sensor_closed(&sensor);
    server.hearing = 0;
    run(&sensor, &server, 2000);
    say(&server, "INFO {}\r\n");
    while (fleet_sensor_poll(&sensor) != FLEET_SECURE) {}
    server.now += FLEET_HANDSHAKE;
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_CLOSE);
    fleet_sensor_secured(&sensor);
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_NOTHING && server.hearing == 0);
    run(&sensor, &server, 4000);
    say(&server, "INFO {}\r\nPONG\r\n");
    REQUIRE(fleet_sensor_poll(&sensor) == FLEET_CLOSE && server.hearing == 0);
}

/* A server that takes the link and says nothing: tried again ever more rarely, the oldest samples go. */
static void silence(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 1;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    for (int second = 0; second < 600; second++) {
        push(&sensor, NOON + (uint64_t)second * 1000u, second);
        run(&sensor, &server, 1000);
    }
    REQUIRE(server.hearing == 0 && sensor.acknowledged == 0);
    REQUIRE(sensor.dropped == 592 && sensor.count == 8);
    /* 10 s of waiting each, then pauses that double up to a minute: without them it would be 60. */
    REQUIRE(sensor.connects >= 8 && sensor.connects <= 20);
    uint8_t frame[128];
    REQUIRE(fleet_sensor_frame(&sensor, 0, 1, 0, frame) == 14 && frame[12] == (592 & 255) && frame[13] == 592 >> 8);
}

static void wrong_configurations(void) {
    static script server;
    static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123";
    uint8_t ring[FLEET_RING(8, 2, 4)];
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config good = speed_config(ring, sizeof ring), c;
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &good, &port) == 0);
    REQUIRE(!fleet_sensor_push(&sensor, 1, &(int32_t){65536}) && !fleet_sensor_push(&sensor, 1, &(int32_t){-32769}));
    REQUIRE(!fleet_sensor_push(&sensor, (uint64_t)1 << 48, &(int32_t){1}) && sensor.count == 0);
    static const char *const no_ids[] = {NULL, "", "a.b", "a b", "*", "a\r\nPUB x", "\xC3\xA4"};
    for (size_t i = 0; i < sizeof no_ids / sizeof *no_ids; i++) {
        c = good, c.vehicle = no_ids[i];
        REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -1);
    }
    c = good, c.signal = "off";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -1);
    c = good, c.batch = 65;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -2);
    c = good, c.ring_bytes = 7;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -3);
    c = good, c.token = "from a file\n";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.token = "a", c.user = "b";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.password = "of nobody";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, c.jwt = "a", c.nkey = "UABC";
    port.sign = script_sign;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    port.sign = NULL;
    c = good, c.nkey = "UABC";
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -4);
    c = good, port.send = NULL;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -5);
    port.send = script_send;
    c = good, c.cell = c.vehicle = c.signal = longest;
    REQUIRE(fleet_sensor_init(&sensor, &c, &port) == -6);
}

void link_cases(void) {
    long_info();
    secured();
    silence();
    dead_links();
    back_off();
    logins();
    longest_names();
    wrong_configurations();
}

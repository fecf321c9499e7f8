/* A vehicle's trip and a sensor's frames, for `check cases`. */
#include "script.h"

void trip_cases(void);

/* Many seconds of a link whose server answers. */
static void last(fleet_sensor *sensor, script *server, uint32_t seconds) {
    for (uint32_t second = 0; second < seconds; second++) {
        say(server, "PONG\r\n");
        run(sensor, server, 1000);
    }
}

/* `on` is said until acknowledged and every minute with the same `since`, and samples wait for 2 s after the first
 * one; all of it across a wrap of the clock. */
static void trip(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64, server.now = UINT32_MAX - 13000u;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    push(&sensor, NOON, 1);
    run(&sensor, &server, 5000); /* the server isn't there yet */
    greet(&sensor, &server);
    run(&sensor, &server, 1800);
    REQUIRE(times(&server, ON) == 1 && !heard(&server, PUBLISHED));
    run(&sensor, &server, 200);
    REQUIRE(times(&server, PUBLISHED) == 1);
    store_frame(&sensor, &server, 0);
    last(&sensor, &server, 13);
    REQUIRE(times(&server, ON) == 4);
    store(&sensor, &server, "on");
    last(&sensor, &server, 59);
    REQUIRE(times(&server, ON) == 4 && fleet_sensor_idle(&sensor));
    run(&sensor, &server, 2000);
    REQUIRE(times(&server, ON) == 5);
    /* No second pause for samples. */
    push(&sensor, NOON + 60000, 2);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 2);
    /* `off` waits for the samples, and for the `on` that is under way. */
    fleet_sensor_off(&sensor);
    store(&sensor, &server, "on");
    REQUIRE(!heard(&server, OFF));
    store_frame(&sensor, &server, 1);
    REQUIRE(times(&server, OFF) == 1 && !fleet_sensor_idle(&sensor));
    run(&sensor, &server, 5000);
    REQUIRE(times(&server, OFF) == 2);
    store(&sensor, &server, "on"); /* a late one, which is no longer waited for */
    REQUIRE(!fleet_sensor_idle(&sensor));
    store(&sensor, &server, "off");
    REQUIRE(fleet_sensor_idle(&sensor));
    last(&sensor, &server, 70);
    REQUIRE(times(&server, OFF) == 2 && times(&server, ON) == 5);
    /* What acknowledges one trip's `on` says nothing of the next one's, which wasn't said yet. */
    fleet_sensor_on(&sensor, NOON);
    run(&sensor, &server, 100);
    fleet_sensor_on(&sensor, NOON);
    store(&sensor, &server, "on");
    REQUIRE(times(&server, ON) == 7 && !fleet_sensor_idle(&sensor));
    store(&sensor, &server, "on");
    REQUIRE(fleet_sensor_idle(&sensor) && sensor.connects == 1);
    fleet_sensor_off(&sensor);
    REQUIRE(!fleet_sensor_idle(&sensor));
}

/* A trip that is over before there is a link: announced, then its samples, then its end. */
static void trip_without_a_link(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    for (int i = 0; i < 4; i++) push(&sensor, NOON + (uint64_t)i, i);
    fleet_sensor_off(&sensor);
    server.now += UINT32_C(3000000000); /* 34 days */
    welcome(&sensor, &server);
    REQUIRE(heard(&server, ON));
    store(&sensor, &server, "on");
    REQUIRE(!heard(&server, PUBLISHED) && !fleet_sensor_idle(&sensor));
    run(&sensor, &server, 2000);
    REQUIRE(heard(&server, PUBLISHED) && !heard(&server, OFF));
    store_frame(&sensor, &server, 0);
    REQUIRE(heard(&server, OFF));
    store(&sensor, &server, "off");
    REQUIRE(fleet_sensor_idle(&sensor) && sensor.acknowledged == 4);
}

/* Another sensor of the vehicle, which says neither `on` nor `off`. */
static void beside_it(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_hold(&sensor);
    push(&sensor, NOON, 1);
    welcome(&sensor, &server);
    run(&sensor, &server, 1700);
    REQUIRE(!heard(&server, PUBLISHED));
    run(&sensor, &server, 200);
    REQUIRE(heard(&server, PUBLISHED) && !heard(&server, ON));
}

/* The samples of a frame that was heard. */
static int frame_of(const script *server, int n) {
    const char *body = nth(server, n, PUBLISHED);
    REQUIRE(body);
    body = strchr(body, '\xF1');
    REQUIRE(body);
    return body[1];
}

/* A frame goes when it can't grow any more, or when its first sample has waited for long enough. */
static void several_in_a_frame(void) {
    static script server;
    uint8_t ring[FLEET_RING(64, 1, 2)];
    server.piece = 64;
    fleet_port port = {&server, script_send, script_receive, script_now, NULL};
    fleet_config config = speed_config(ring, sizeof ring);
    config.batch_ms = 500;
    fleet_sensor sensor;
    REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
    welcome(&sensor, &server);
    for (int i = 0; i < 4; i++) {
        push(&sensor, NOON + 240u * (uint64_t)i, i);
        run(&sensor, &server, 240);
    }
    REQUIRE(times(&server, PUBLISHED) == 1 && frame_of(&server, 1) == 3);
    run(&sensor, &server, 500);
    REQUIRE(times(&server, PUBLISHED) == 2 && frame_of(&server, 2) == 1);
    /* Many at once; then a clock that is put back, and one that is put on. */
    static const uint64_t at[] = {2000, 2001, 2002, 2003, 2004, 1000, 1001, 66537, 66537};
    for (int i = 0; i < 9; i++) push(&sensor, NOON + at[i], i);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 4 && frame_of(&server, 3) == 4 && frame_of(&server, 4) == 1);
    for (unsigned i = 0; i < 4; i++) store_frame(&sensor, &server, i);
    run(&sensor, &server, 600);
    REQUIRE(times(&server, PUBLISHED) == 6 && frame_of(&server, 5) == 2 && frame_of(&server, 6) == 2);
    store_frame(&sensor, &server, 5); /* in any order */
    REQUIRE(sensor.acknowledged == 9);
    store_frame(&sensor, &server, 4);
    REQUIRE(sensor.acknowledged == 13 && fleet_sensor_idle(&sensor));
}

/* A full ring drops what is needed and no more, and only what no stream has acknowledged counts as dropped. */
static void full_ring(void) {
    static script server;
    uint8_t ring[FLEET_RING(8, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    welcome(&sensor, &server);
    for (int i = 0; i < 8; i++) push(&sensor, NOON + (uint64_t)i, i);
    run(&sensor, &server, 100);
    REQUIRE(times(&server, PUBLISHED) == 2 && sensor.flights == 2);
    store_frame(&sensor, &server, 1);
    REQUIRE(sensor.acknowledged == 0);
    for (int i = 8; i < 11; i++) push(&sensor, NOON + (uint64_t)i, i);
    REQUIRE(sensor.dropped == 3 && sensor.count == 8);
    /* What is left of the first frame goes again. */
    run(&sensor, &server, 6000);
    REQUIRE(frame_of(&server, 3) == 3 && frame_of(&server, 4) == 1);
    push(&sensor, NOON + 11, 11);
    REQUIRE(sensor.dropped == 4 && sensor.acknowledged == 4 && sensor.count == 4);
    store_frame(&sensor, &server, 0); /* nobody's any more */
    store_frame(&sensor, &server, 2);
    run(&sensor, &server, 100);
    store_frame(&sensor, &server, 3);
    REQUIRE(sensor.acknowledged == 8 && fleet_sensor_idle(&sensor));
}

/* What no stream takes is told after some sends and then goes once a minute only, is kept meanwhile, and goes on when
 * one takes it. The end of a trip doesn't wait for it. */
static void nobody_answers(void) {
    static script server;
    uint8_t ring[FLEET_RING(32, 1, 2)];
    server.piece = 64;
    fleet_sensor sensor = sensor_of(&server, ring, sizeof ring);
    fleet_sensor_on(&sensor, NOON);
    for (int i = 0; i < 12; i++) push(&sensor, NOON + (uint64_t)i, i);
    welcome(&sensor, &server);
    store(&sensor, &server, "on");
    uint32_t told_after = 0;
    for (; sensor.unanswered < FLEET_TRIES; told_after++) last(&sensor, &server, 1);
    REQUIRE(told_after >= FLEET_ACK_TIMEOUT / 1000 && told_after <= 60 && sensor.life_unanswered == 0);
    REQUIRE(sensor.resent == FLEET_TRIES && times(&server, PUBLISHED) == 3 + FLEET_TRIES);
    /* Three frames, once a minute each. */
    last(&sensor, &server, 600);
    REQUIRE(sensor.resent == FLEET_TRIES + 3 * 10 && sensor.connects == 1);
    REQUIRE(sensor.count == 12 && sensor.dropped == 0 && sensor.unanswered == FLEET_TRIES);
    REQUIRE(!heard(&server, OFF));
    fleet_sensor_off(&sensor);
    last(&sensor, &server, 1);
    store(&sensor, &server, "on"); /* of the last minute, if it was under way */
    REQUIRE(times(&server, OFF) == 1 && !fleet_sensor_idle(&sensor));
    store(&sensor, &server, "off");
    for (unsigned i = 0; i < 3; i++) store_frame(&sensor, &server, i);
    REQUIRE(sensor.unanswered == 0 && sensor.acknowledged == 12 && fleet_sensor_idle(&sensor));
    push(&sensor, NOON + 20, 20);
    run(&sensor, &server, 100);
    store_frame(&sensor, &server, 3);
    REQUIRE(fleet_sensor_idle(&sensor));
    /* The same of a trip: nothing takes its `on`, but the samples are taken. */
    server.hearing = 0;
    fleet_sensor_on(&sensor, NOON);
    push(&sensor, NOON + 30, 30);
    last(&sensor, &server, 5);
    store_frame(&sensor, &server, 4);
    while (sensor.life_unanswered < FLEET_TRIES) last(&sensor, &server, 1);
    REQUIRE(times(&server, ON) == 1 + FLEET_TRIES && sensor.unanswered == 0 && sensor.count == 0);
    last(&sensor, &server, 600);
    REQUIRE(times(&server, ON) == 1 + FLEET_TRIES + 10);
    store(&sensor, &server, "on");
    REQUIRE(sensor.life_unanswered == 0 && fleet_sensor_idle(&sensor));
}

#if FLEET_MSG_ID
static void id_of(const script *server, int n, char id[25]) {
    const char *text = nth(server, n, "Nats-Msg-Id: ");
    REQUIRE(text && text[24] == '\r');
    memcpy(id, text, 24);
    id[24] = 0;
}

/* A frame that goes again has its id again, and no other frame has it: of this sensor, of the same one started
 * anew, at a time that comes again or with a seed that does or with both and other values, and of another. */
static void ids(void) {
    static const struct {
        const char *vehicle;
        uint64_t time;
        uint32_t seed;
        int32_t value;
    } starts[] = {{"V", NOON, 7, 0}, {"V", NOON + 1, 7, 0}, {"V", NOON, 8, 0}, {"W", NOON, 7, 0}, {"V", NOON, 7, 1}};
    enum { STARTS = sizeof starts / sizeof *starts };
    static char found[2 * STARTS][25];
    for (int i = 0; i < STARTS; i++) {
        static script server;
        uint8_t ring[FLEET_RING(8, 1, 2)];
        memset(&server, 0, sizeof server);
        server.piece = 64;
        fleet_config config = speed_config(ring, sizeof ring);
        config.vehicle = starts[i].vehicle, config.seed = starts[i].seed;
        fleet_port port = {&server, script_send, script_receive, script_now, NULL};
        fleet_sensor sensor;
        REQUIRE(fleet_sensor_init(&sensor, &config, &port) == 0);
        for (int n = 0; n < 8; n++) push(&sensor, starts[i].time, starts[i].value + n);
        welcome(&sensor, &server);
        fleet_sensor_closed(&sensor);
        run(&sensor, &server, 2000);
        greet(&sensor, &server);
        char again[25];
        for (int n = 0; n < 2; n++) {
            id_of(&server, 1 + n, found[2 * i + n]);
            id_of(&server, 3 + n, again);
            REQUIRE(strcmp(found[2 * i + n], again) == 0);
        }
        REQUIRE(sensor.resent == 2 && times(&server, "Nats-Msg-Id: ") == 4);
    }
    for (int i = 0; i < 2 * STARTS; i++)
        for (int j = 0; j < i; j++) REQUIRE(strcmp(found[i], found[j]) != 0);
}
#endif

void trip_cases(void) {
    trip();
    trip_without_a_link();
    beside_it();
    several_in_a_frame();
    full_ring();
    nobody_answers();
#if FLEET_MSG_ID
    ids();
#endif
}

/* One vehicle, one NATS client per signal, from a recording:
 *
 *   vehicle [--now] [--speed N] URL CELL VEHICLE FILE
 *
 * FILE is CSV with vehicle,signal,ts_ms,value,value2 in the order of time; rows of other vehicles are passed
 * over. --now moves the recording so that it begins now, --speed plays it faster. The position's client says
 * `on` and `off`. Ends when everything is acknowledged, with a line per signal on standard output. Exit status 65:
 * the recording has nothing of the vehicle; 69: there is a signal that no stream takes, the others' samples are
 * acknowledged. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"

enum { SIGNALS = 4, SAMPLES = 512 };

static const struct {
    const char *name;
    uint8_t columns, bytes;
    int scale; /* decimals on the wire */
} signals[SIGNALS] = {
    {"position", FLEET_POSITION, 7}, {"speed", FLEET_SPEED, 2}, {"fuel", FLEET_FUEL, 2}, {"brake", FLEET_BRAKE, 1}};

static fleet_sensor sensors[SIGNALS];
static posix_link links[SIGNALS];
static uint8_t rings[SIGNALS][FLEET_RING(SAMPLES, 2, 4)];

static bool poll_all(void) {
    static posix_told told[SIGNALS];
    bool done = true;
    for (int i = 0; i < SIGNALS; i++) {
        posix_poll(&sensors[i], &links[i]);
        posix_tell("vehicle", &sensors[i], &told[i]);
        done = done && posix_done(&sensors[i]);
    }
    return done;
}

static int start(const char *url, const char *cell, const char *vehicle) {
    for (int i = 0; i < SIGNALS; i++) {
        fleet_config config = {0};
        config.cell = cell, config.vehicle = vehicle, config.signal = signals[i].name;
        config.columns = signals[i].columns, config.bytes = signals[i].bytes;
        config.batch = 8, config.batch_ms = 500;
        config.seed = (uint32_t)posix_utc() + (uint32_t)i * 2654435761u;
        config.ring = rings[i], config.ring_bytes = FLEET_RING(SAMPLES, config.columns, config.bytes);
        fleet_port port = posix_port(&links[i]);
        char *own = strdup(url);
        if (!own || !posix_url(own, &links[i], &config)) return -7;
        int error = fleet_sensor_init(&sensors[i], &config, &port);
        if (error) return error;
    }
    return 0;
}

/* All are switched on together; one says so. */
static void switch_on(uint64_t since) {
    for (int i = 0; i < SIGNALS; i++) fleet_sensor_hold(&sensors[i]);
    fleet_sensor_on(&sensors[0], since);
}

/* The recording's other vehicles, for who has misspelt one: the first few. */
static char others[8][66];
static unsigned more_others;

static void note(const char *vehicle) {
    size_t i = 0, length = strlen(vehicle);
    for (; i < sizeof others / sizeof *others && *others[i]; i++)
        if (strncmp(others[i], vehicle, sizeof *others - 1) == 0) return;
    if (i == sizeof others / sizeof *others) more_others++;
    else memcpy(others[i], vehicle, length < sizeof *others ? length : sizeof *others - 1);
}

static int nothing_of(const char *vehicle, const char *file) {
    fprintf(stderr, "vehicle: nothing in %s is of %s, it has", file, vehicle);
    for (size_t i = 0; i < sizeof others / sizeof *others && *others[i]; i++)
        fprintf(stderr, "%s %s", i ? "," : "", others[i]);
    fprintf(stderr, "%s\n", more_others ? ", ..." : *others[0] ? "" : " no vehicle");
    return 65;
}

/* A row's signal, time and counts; -1 if it is another vehicle's or none of the four, -2 if it is wrong. */
static int row(char *line, const char *vehicle, uint64_t *ms, int32_t counts[2]) {
    char *fields[5] = {line};
    int found = 1;
    for (char *c = line; *c && found < 5; c++)
        if (*c == ',') *c = 0, fields[found++] = c + 1;
    if (found < 4) return -2;
    if (strcmp(fields[0], vehicle) != 0) {
        if (strcmp(fields[0], "vehicle") != 0) note(fields[0]);
        return -1;
    }
    for (int i = 0; i < SIGNALS; i++) {
        if (strcmp(fields[1], signals[i].name) != 0) continue;
        char *end;
        *ms = strtoull(fields[2], &end, 10);
        if (*end || end == fields[2] || found < 3 + signals[i].columns) return -2;
        for (int c = 0; c < signals[i].columns; c++)
            if (!posix_scaled(fields[3 + c], signals[i].scale, &counts[c])) return -2;
        return i;
    }
    return -1;
}

int main(int argc, char **argv) {
    bool move = false;
    double speed = 1;
    int first = 1;
    for (; first < argc && argv[first][0] == '-'; first++) {
        if (strcmp(argv[first], "--now") == 0) move = true;
        else if (strcmp(argv[first], "--speed") == 0 && first + 1 < argc) speed = atof(argv[++first]);
        else break;
    }
    FILE *file = argc - first == 4 ? fopen(argv[first + 3], "r") : NULL;
    if (!file || !(speed > 0)) {
        fprintf(stderr, "usage: vehicle [--now] [--speed N] URL CELL VEHICLE FILE\n");
        return 64;
    }
    int error = start(argv[first], argv[first + 1], argv[first + 2]);
    if (error == -7) fprintf(stderr, "vehicle: the URL is none; it takes nats:// only\n");
    else if (error) fprintf(stderr, "vehicle: the configuration is wrong (%d, see fleet_sensor_init)\n", error);
    if (error) return 64;
    uint64_t begun = 0, offset = 0;
    char line[256];
    unsigned long number = 0;
    bool began = false;
    uint64_t from = 0;
    while (fgets(line, sizeof line, file)) {
        uint64_t ms;
        int32_t counts[2];
        int signal = row(line, argv[first + 2], &ms, counts);
        number++;
        if (signal == -2 && number > 1) fprintf(stderr, "vehicle: line %lu can't be used\n", number);
        if (signal < 0) continue;
        if (!began) {
            began = true, begun = posix_utc(), from = ms, offset = move ? begun - ms : 0;
            switch_on(begun);
        }
        double wait = (double)(ms - from) / speed;
        while ((double)(posix_utc() - begun) < wait) poll_all(), posix_sleep(5);
        if (!fleet_sensor_push(&sensors[signal], ms + offset, counts))
            fprintf(stderr, "vehicle: line %lu doesn't fit the wire\n", number);
        poll_all();
    }
    if (!began) return nothing_of(argv[first + 2], argv[first + 3]);
    fleet_sensor_off(&sensors[0]);
    while (!poll_all()) posix_sleep(5);
    bool all = true;
    for (int i = 0; i < SIGNALS; i++) {
        const fleet_sensor *s = &sensors[i];
        printf("%s pushed %" PRIu32 " acknowledged %" PRIu32 " dropped %" PRIu32 " resent %" PRIu32 " connects %" PRIu32
               "\n", signals[i].name, s->pushed, s->acknowledged, s->dropped, s->resent, s->connects);
        all = all && fleet_sensor_idle(s);
    }
    return all ? 0 : 69;
}

/* One sensor, from lines of `ts_ms,value[,value2]` in a file or standard input (-):
 *
 *   sensor [--ring SAMPLES] URL CELL VEHICLE SIGNAL FILE
 *
 * SIGNAL is position, speed, fuel or brake. Reads on as long as the ring has room and ends when everything is
 * acknowledged. With --drop it reads at once whatever happens, as a sensor measures: a full ring drops. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posix.h"

static const struct {
    const char *name;
    uint8_t columns, bytes;
    int scale;
} signals[] = {
    {"position", FLEET_POSITION, 7}, {"speed", FLEET_SPEED, 2}, {"fuel", FLEET_FUEL, 2}, {"brake", FLEET_BRAKE, 1}};

int main(int argc, char **argv) {
    unsigned samples = 64;
    bool drop = false;
    int first = 1;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        if (strcmp(argv[first], "--drop") == 0) drop = true;
        else if (strcmp(argv[first], "--ring") == 0 && first + 1 < argc) samples = (unsigned)atoi(argv[++first]);
        else break;
    }
    size_t signal = 0;
    const size_t count = sizeof signals / sizeof *signals;
    while (argc - first == 5 && signal < count && strcmp(argv[first + 3], signals[signal].name) != 0) signal++;
    static posix_lines lines;
    if (argc - first != 5 || !posix_lines_open(&lines, argv[first + 4]) || signal == count || samples == 0 || samples > 65535) {
        fprintf(stderr, "usage: sensor [--ring SAMPLES] [--drop] URL CELL VEHICLE SIGNAL FILE\n");
        return 64;
    }
    static fleet_sensor sensor;
    static posix_link link;
    fleet_config config = {0};
    config.cell = argv[first + 1], config.vehicle = argv[first + 2], config.signal = signals[signal].name;
    config.columns = signals[signal].columns, config.bytes = signals[signal].bytes;
    config.batch = 8, config.batch_ms = 200, config.seed = (uint32_t)posix_utc();
    config.ring_bytes = FLEET_RING(samples, config.columns, config.bytes);
    config.ring = malloc(config.ring_bytes);
    fleet_port port = posix_port(&link);
    int error = posix_url(argv[first], &link, &config) ? fleet_sensor_init(&sensor, &config, &port) : -7;
    if (error) {
        fprintf(stderr, "sensor: the configuration is wrong (%d, see fleet_sensor_init)\n", error);
        return 64;
    }
    char line[128];
    unsigned long number = 0;
    for (int got; (got = posix_lines_next(&lines, line, sizeof line)) >= 0;) {
        if (got == 0) {
            posix_poll(&sensor, &link);
            posix_sleep(1);
            continue;
        }
        number++;
        char *second = strchr(line, ','), *third = second ? strchr(second + 1, ',') : NULL, *end;
        uint64_t ms = strtoull(line, &end, 10);
        if (third) *third = 0;
        int32_t counts[2];
        bool good = second && end == second && posix_scaled(second + 1, signals[signal].scale, &counts[0]);
        if (config.columns == 2) good = good && third && posix_scaled(third + 1, signals[signal].scale, &counts[1]);
        while (!drop && sensor.count == sensor.capacity) posix_poll(&sensor, &link), posix_sleep(1);
        if (!good || !fleet_sensor_push(&sensor, ms, counts)) fprintf(stderr, "sensor: line %lu can't be used\n", number);
        posix_poll(&sensor, &link);
    }
    while (!fleet_sensor_idle(&sensor)) posix_poll(&sensor, &link), posix_sleep(1);
    printf("pushed %" PRIu32 " acknowledged %" PRIu32 " dropped %" PRIu32 " resent %" PRIu32 " connects %" PRIu32
           " errors %" PRIu32 "\n", sensor.pushed, sensor.acknowledged, sensor.dropped, sensor.resent, sensor.connects,
           sensor.errors);
    free(config.ring);
    return 0;
}

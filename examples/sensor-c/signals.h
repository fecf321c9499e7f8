/* The signals that the programs beside this file know: the scenario's four, and those of their option
 * --signal NAME=COLUMNS,BYTES,DECIMALS. The library knows none: a signal is a name and two numbers of fleet_config. */
#ifndef FLEET_SIGNALS_H
#define FLEET_SIGNALS_H

#include "fleet_sensor.h"

enum { SIGNALS_MAX = 8, SIGNAL_COLUMNS_MAX = 4 };

typedef struct {
    const char *name;
    uint8_t columns, bytes;
    int decimals; /* of a value that are on the wire: 2 for a scale of 0.01 */
} signal_shape;

/* The first ones are the scenario's, in its order. */
extern signal_shape signal_shapes[SIGNALS_MAX];
extern size_t signal_count;

/* Its place in signal_shapes, or -1. */
int signal_find(const char *name);

/* Adds the signal of an option's text, which is cut into pieces and must live on. NULL, or what is wrong. */
const char *signal_add(char *text);

/* Name and shape into a configuration. */
void signal_configure(const signal_shape *shape, fleet_config *config);

/* As many counts as the signal has columns, from texts; false if one is no number or too long. */
bool signal_counts(const signal_shape *shape, char *const *texts, int32_t *counts);

#endif

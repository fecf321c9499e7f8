#include "signals.h"

#include <stdlib.h>
#include <string.h>

#include "posix.h"

signal_shape signal_shapes[SIGNALS_MAX] = {
    {"position", FLEET_POSITION, 7}, {"speed", FLEET_SPEED, 2}, {"fuel", FLEET_FUEL, 2}, {"brake", FLEET_BRAKE, 1}};
size_t signal_count = 4;

int signal_find(const char *name) {
    for (size_t i = 0; i < signal_count; i++)
        if (strcmp(signal_shapes[i].name, name) == 0) return (int)i;
    return -1;
}

/* A number of at most two digits behind that separator, which ends what stands before; or -1. */
static int number(char **text, char separator) {
    char *at = strchr(*text, separator);
    if (!at) return -1;
    *at++ = 0;
    int value = 0, digits = 0;
    for (*text = at; *at >= '0' && *at <= '9' && digits < 3; at++, digits++) value = value * 10 + (*at - '0');
    return digits > 0 && digits < 3 && (*at == 0 || *at == ',') ? value : -1;
}

const char *signal_add(char *text) {
    char *name = text;
    int columns = number(&text, '='), bytes = number(&text, ','), decimals = number(&text, ',');
    if (columns < 1 || columns > SIGNAL_COLUMNS_MAX || decimals < 0 || decimals > 9 || strchr(text, ','))
        return "not NAME=COLUMNS,BYTES,DECIMALS with 1 to 4 columns and 0 to 9 decimals";
    if (bytes != 1 && bytes != 2 && bytes != 4) return "a value has 1, 2 or 4 bytes";
    if (signal_find(name) >= 0) return "there is such a signal already";
    if (signal_count == SIGNALS_MAX) return "there are too many signals";
    signal_shape shape = {name, (uint8_t)columns, (uint8_t)bytes, decimals};
    signal_shapes[signal_count++] = shape;
    return NULL;
}

void signal_configure(const signal_shape *shape, fleet_config *config) {
    config->signal = shape->name, config->columns = shape->columns, config->bytes = shape->bytes;
}

bool signal_counts(const signal_shape *shape, char *const *texts, int32_t *counts) {
    for (int i = 0; i < shape->columns; i++)
        if (!posix_scaled(texts[i], shape->decimals, &counts[i])) return false;
    return true;
}

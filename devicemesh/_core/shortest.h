/* The shortest decimal that reads back as the same number, written as Python's repr writes it: 5.0, 1e+16. */
#ifndef DEVICEMESH_SHORTEST_H
#define DEVICEMESH_SHORTEST_H

#include <stddef.h>
#include <stdint.h>

enum { SHORTEST_MAX = 32, INTEGER_MAX_DIGITS = 20 };

/* Write a finite double into `out[SHORTEST_MAX]`; returns the length. No NUL is added. */
size_t shortest_double(double value, char *out);

/* The shortest decimal that reads back as the same float32: 0.1, where the double would be 0.10000000149011612. */
size_t shortest_float(float value, char *out);

/* Write an integer into `out[INTEGER_MAX_DIGITS + 1]`; returns the length. */
size_t decimal_integer(int64_t value, char *out);
size_t decimal_unsigned(uint64_t value, char *out);

#endif

#include "text.h"

#include <string.h>

/* Bytes of the well-formed UTF-8 sequence at `at`, or 0 (Unicode 15, table 3-7). */
static size_t sequence_length(const uint8_t *at, const uint8_t *end)
{
    uint8_t first = at[0], low = 0x80, high = 0xBF;
    size_t length;
    if (first < 0x80)
        return 1;
    if (first >= 0xC2 && first <= 0xDF)
        length = 2;
    else if (first >= 0xE0 && first <= 0xEF)
        length = 3;
    else if (first >= 0xF0 && first <= 0xF4)
        length = 4;
    else
        return 0;
    if (first == 0xE0)
        low = 0xA0;
    else if (first == 0xED)
        high = 0x9F;
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F;
    if ((size_t)(end - at) < length || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (at[i] < 0x80 || at[i] > 0xBF)
            return 0;
    return length;
}

bool utf8_valid(const uint8_t *bytes, size_t length)
{
    const uint8_t *end = bytes + length;
    while (bytes < end) {
        size_t step = sequence_length(bytes, end);
        if (!step)
            return false;
        bytes += step;
    }
    return true;
}

char *put_string(char *out, const uint8_t *bytes, size_t length)
{
    static const char hex[] = "0123456789abcdef", special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    *out++ = '"';
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = bytes[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            *out++ = (char)byte;
            continue;
        }
        const char *named = byte ? strchr(special, byte) : NULL;
        *out++ = '\\';
        if (named) {
            *out++ = letters[named - special];
            continue;
        }
        memcpy(out, "u00", 3);
        out[3] = hex[byte >> 4];
        out[4] = hex[byte & 15];
        out += 5;
    }
    *out++ = '"';
    return out;
}

char *put_base64(char *out, const uint8_t *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    *out++ = '"';
    for (; length >= 3; bytes += 3, length -= 3) {
        uint32_t group = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = digits[group >> shift & 63];
    }
    if (length) {
        uint32_t group = (uint32_t)bytes[0] << 16 | (length == 2 ? (uint32_t)bytes[1] << 8 : 0);
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = (char)(length == 2 ? digits[group >> 6 & 63] : '=');
        *out++ = '=';
    }
    *out++ = '"';
    return out;
}

static char *put_padded(char *out, unsigned value, int width)
{
    for (int i = width - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + width;
}

/* Civil date of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
static char *put_date(char *out, int64_t day)
{
    int64_t shifted = day + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned day_of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march = (5 * day_of_year + 2) / 153; /* months since March */
    unsigned month = march < 10 ? march + 3 : march - 9;
    unsigned year = (unsigned)(era * 400) + year_of_era + (month <= 2);
    out = put_padded(out, year, 4);
    *out++ = '-';
    out = put_padded(out, month, 2);
    *out++ = '-';
    return put_padded(out, day_of_year - (153 * march + 2) / 5 + 1, 2);
}

char *put_time(char *out, int64_t time_ns)
{
    const int64_t second_ns = 1000000000, day_s = 86400;
    int64_t seconds = time_ns / second_ns, nanoseconds = time_ns % second_ns;
    if (nanoseconds < 0) {
        nanoseconds += second_ns;
        seconds--;
    }
    int64_t day = seconds / day_s, second = seconds % day_s;
    if (second < 0) {
        second += day_s;
        day--;
    }
    *out++ = '"';
    out = put_date(out, day);
    *out++ = 'T';
    out = put_padded(out, (unsigned)(second / 3600), 2);
    *out++ = ':';
    out = put_padded(out, (unsigned)(second / 60 % 60), 2);
    *out++ = ':';
    out = put_padded(out, (unsigned)(second % 60), 2);
    if (nanoseconds) {
        *out++ = '.';
        out = put_padded(out, (unsigned)nanoseconds, 9);
        while (out[-1] == '0')
            out--;
    }
    *out++ = 'Z';
    *out++ = '"';
    return out;
}

/* ---- the JSON check ---- */

struct scanner {
    const uint8_t *at;
    const uint8_t *end;
};

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static bool accept(struct scanner *s, uint8_t byte)
{
    if (s->at < s->end && *s->at == byte) {
        s->at++;
        return true;
    }
    return false;
}

static size_t scan_digits(struct scanner *s)
{
    const uint8_t *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return (size_t)(s->at - start);
}

static bool scan_number(struct scanner *s)
{
    accept(s, '-');
    if (!accept(s, '0') && !scan_digits(s))
        return false;
    if (accept(s, '.') && !scan_digits(s))
        return false;
    if (accept(s, 'e') || accept(s, 'E')) {
        if (!accept(s, '+'))
            accept(s, '-');
        return scan_digits(s) > 0;
    }
    return true;
}

static bool is_hex(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

static bool scan_escape(struct scanner *s)
{
    if (s->at == s->end)
        return false;
    uint8_t byte = *s->at++;
    if (byte != 'u')
        return byte && strchr("\"\\/bfnrt", byte);
    for (int i = 0; i < 4; i++)
        if (s->at == s->end || !is_hex(*s->at++))
            return false;
    return true;
}

static bool scan_string(struct scanner *s)
{
    if (!accept(s, '"'))
        return false;
    while (s->at < s->end) {
        if (accept(s, '"'))
            return true;
        if (accept(s, '\\')) {
            if (!scan_escape(s))
                return false;
            continue;
        }
        size_t step = *s->at < 0x20 ? 0 : sequence_length(s->at, s->end);
        if (!step)
            return false;
        s->at += step;
    }
    return false;
}

static bool scan_word(struct scanner *s, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0)
        return false;
    s->at += length;
    return true;
}

static bool scan_scalar(struct scanner *s)
{
    if (s->at == s->end)
        return false;
    switch (*s->at) {
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return scan_number(s);
    }
}

static bool scan_key(struct scanner *s)
{
    skip_space(s);
    if (!scan_string(s))
        return false;
    skip_space(s);
    return accept(s, ':');
}

/* After a value: close what ends here and go to the next. False: malformed; *depth 0 at the end of all. */
static bool scan_after_value(struct scanner *s, const bool *is_object, unsigned *depth)
{
    while (*depth) {
        skip_space(s);
        if (accept(s, ','))
            return !is_object[*depth - 1] || scan_key(s);
        if (!accept(s, is_object[*depth - 1] ? '}' : ']'))
            return false;
        --*depth;
    }
    return true;
}

bool json_valid(const uint8_t *bytes, size_t length)
{
    struct scanner s = {bytes, bytes + length};
    bool is_object[JSON_MAX_DEPTH];
    unsigned depth = 0;
    do {
        skip_space(&s);
        bool object = s.at < s.end && *s.at == '{';
        if (object || (s.at < s.end && *s.at == '[')) {
            s.at++;
            skip_space(&s);
            if (!accept(&s, object ? '}' : ']')) {
                if (depth == JSON_MAX_DEPTH)
                    return false;
                is_object[depth++] = object;
                if (object && !scan_key(&s))
                    return false;
                continue;
            }
        } else if (!scan_scalar(&s)) {
            return false;
        }
        if (!scan_after_value(&s, is_object, &depth))
            return false;
    } while (depth);
    skip_space(&s);
    return s.at == s.end;
}

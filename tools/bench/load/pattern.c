#include "pattern.h"

#include <string.h>

#define NUMBER_AT 9
#define NUMBER_DIGITS 16

static char filler[PATTERN_PAGE];

void pattern_prepare(void)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    uint32_t state = 1;
    for (size_t i = 0; i < PATTERN_PAGE; i++) {
        state = state * 1664525u + 1013904223u;
        filler[i] = letters[state >> 26];
    }
}

void put_hex(char *out, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15u];
}

bool get_hex(const char *text, int digits, uint64_t *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++) {
        const char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10u;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static void put_stamp(char *out, uint32_t owner, uint64_t number, size_t page)
{
    put_hex(out, owner, 8);
    out[8] = ':';
    put_hex(out + NUMBER_AT, number, NUMBER_DIGITS);
    out[25] = ':';
    put_hex(out + 26, page, 5);
    out[31] = '|';
}

void pattern_next(char *record)
{
    for (char *digit = record + NUMBER_AT + NUMBER_DIGITS - 1; digit >= record + NUMBER_AT; digit--) {
        if (*digit != 'f') {
            *digit = *digit == '9' ? 'a' : (char)(*digit + 1);
            return;
        }
        *digit = '0';
    }
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void pattern_fill(char *out, size_t size, uint32_t owner, uint64_t number)
{
    for (size_t page = 0; page * PATTERN_PAGE < size; page++) {
        char *begin = out + page * PATTERN_PAGE;
        size_t length = smaller(size - page * PATTERN_PAGE, PATTERN_PAGE);
        char stamp[PATTERN_STAMP];
        put_stamp(stamp, owner, number, page);
        memcpy(begin, stamp, smaller(length, PATTERN_STAMP));
        if (length > PATTERN_STAMP)
            memcpy(begin + PATTERN_STAMP, filler + PATTERN_STAMP, length - PATTERN_STAMP);
    }
}

bool pattern_matches(const char *data, size_t length, uint32_t owner, uint64_t number, size_t at)
{
    while (length > 0) {
        size_t in_page = at % PATTERN_PAGE;
        size_t part;
        if (in_page < PATTERN_STAMP) {
            char stamp[PATTERN_STAMP];
            put_stamp(stamp, owner, number, at / PATTERN_PAGE);
            part = smaller(length, PATTERN_STAMP - in_page);
            if (memcmp(data, stamp + in_page, part) != 0)
                return false;
        } else {
            part = smaller(length, PATTERN_PAGE - in_page);
            if (memcmp(data, filler + in_page, part) != 0)
                return false;
        }
        data += part;
        at += part;
        length -= part;
    }
    return true;
}

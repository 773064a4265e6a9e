/* Images gathered, turned, cropped, mirrored and normalised in one pass over memory. */

typedef unsigned char byte;
typedef long long number;

/* What is done to an image: quarters counter-clockwise, mirrored or not, rows and columns by which a window of its own
   size is moved over it (zero outside of it). Turned first, then cropped, then mirrored. */
typedef struct {
    number turns, mirrored, down, right;
} Change;

/* A plane of `height` x `width` bytes (turned only if square). */
static void changed(const byte *restrict from, byte *restrict to, number height, number width, const Change *how) {
    const number begins[] = {0, width - 1, height * width - 1, (height - 1) * width};
    const number by_row[] = {width, -1, -width, 1}, by_column[] = {1, width, -1, -width};
    const number beyond_left = how->right < 0 ? -how->right : 0, beyond_right = how->right > 0 ? how->right : 0;
    const number first = how->mirrored ? beyond_right : beyond_left;
    const number last = width - (how->mirrored ? beyond_left : beyond_right);
    const number origin = how->mirrored ? width - 1 - first + how->right : first + how->right;
    const number step = how->mirrored ? -by_column[how->turns] : by_column[how->turns];
    for (number row = 0; row < height; row++, to += width) {
        const number y = row + how->down;
        if (y < 0 || y >= height) {
            __builtin_memset(to, 0, width);
            continue;
        }
        const byte *line = from + begins[how->turns] + y * by_row[how->turns] + origin * by_column[how->turns];
        for (number column = 0; column < first; column++) to[column] = 0;
        if (step == 1)
            __builtin_memcpy(to + first, line, last - first);
        else if (step == -1)
            for (number column = first; column < last; column++) to[column] = line[first - column];
        else
            for (number column = first; column < last; column++) to[column] = line[(column - first) * step];
        for (number column = last; column < width; column++) to[column] = 0;
    }
}

/* out[n] = images[which[n]] changed by changes[n] (none: as it is), times scale and plus shift of its channel, rounded
   once. `plane` is room for height x width bytes. Returns how many of the `count` were filled in: fewer where the next
   number is of none of the `total` images. */
number one_pass(const byte *images, const number *which, const Change *changes, const float *scale, const float *shift,
                float *out, byte *plane, number total, number count, number channels, number height, number width) {
    const number size = height * width;
    for (number n = 0; n < count; n++) {
        if (which[n] < 0 || which[n] >= total) return n;
        for (number channel = 0; channel < channels; channel++, out += size) {
            const byte *from = images + (which[n] * channels + channel) * size;
            if (changes) {
                changed(from, plane, height, width, changes + n);
                from = plane;
            }
            const float by = scale[channel], plus = shift[channel];
            for (number i = 0; i < size; i++) out[i] = __builtin_fmaf((float)from[i], by, plus);
        }
    }
    return count;
}

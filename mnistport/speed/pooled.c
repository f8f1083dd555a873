/* 2x2 max-pooling behind a convolution, and the convolution's gradients through it.

   Of the four values of a window only the largest has a gradient, and none where ReLU is 0. The gradients of the
   convolution's weights and of its input are sums over all values; here they are sums over those few, a quarter of the
   multiplications or less: lists of values that are not 0, each times a row of numbers. Every sum has one order, whatever
   the number of threads.

   Arrays are laid out as TF1's: images [N][rows][columns][channels], pooled values [N][rows][columns][filters], and
   weights as torch's channels-last [filters][rows][columns][channels]. Compiled once for float and once for double. */

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif

enum {
    LANES = BYTES / sizeof(REAL),
    WIDEST = 12, /* vectors that are summed side by side, in registers */
    FIRST_CACHE = 24576, /* bytes of a processor's nearest cache to make use of */
    BLOCK = 64,  /* filters whose gradients one thread has in hand, at most */
    DROPPED = 4  /* in place of the winner's number 0 to 3: ReLU gave 0 */
};

typedef REAL vector __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef __typeof__(__builtin_choose_expr(sizeof(REAL) == 4, (int32_t)0, (int64_t)0)) whole_number;
typedef whole_number whole __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef uint8_t small __attribute__((vector_size(LANES), aligned(1), may_alias));

typedef struct {
    int64_t images, rows, columns, channels;      /* of the convolution's input */
    int64_t filters, kernel_rows, kernel_columns; /* of its weights */
    int64_t above, left, below, right;            /* zeros around its input */
    int64_t pooled_rows, pooled_columns;
} Shape;

/* Pooling ---------------------------------------------------------------------------------------------------------- */

static void pool_one(REAL *best, uint8_t *winner, const REAL *const *window, int64_t f, int relu) {
    *best = window[0][f], *winner = 0;
    for (int place = 1; place < 4; place++) {
        if (!window[place]) continue;
        REAL value = window[place][f];
        if (value > *best || value != value) *best = value, *winner = (uint8_t)place;
    }
    if (relu && *best <= 0) *best = 0, *winner = DROPPED;
}

static void pool_vector(REAL *best, uint8_t *winner, const REAL *const *window, int64_t f, int relu) {
    whole most = (whole)*(const vector *)(window[0] + f), number = {};
    for (int place = 1; place < 4; place++) {
        if (!window[place]) continue;
        vector value = *(const vector *)(window[place] + f);
        whole wins = (value > (vector)most) | (value != value);
        most = ((whole)value & wins) | (most & ~wins);
        number = (wins & place) | (number & ~wins);
    }
    if (relu) {
        whole dead = (vector)most <= (vector){};
        most &= ~dead;
        number = (dead & DROPPED) | (number & ~dead);
    }
    *(vector *)best = (vector)most;
    *(small *)winner = __builtin_convertvector(number, small);
}

/* The largest of each window, the first in reading order on a tie, a NaN before all; and which it was.
   convolved [N][rows][columns][filters] -> pooled, winner [N][pooled_rows][pooled_columns][filters]. A window may reach
   over the last row and column; what is not there never wins. */
void max_pool(const REAL *convolved, REAL *pooled, uint8_t *winner, int64_t images, int64_t rows, int64_t columns,
              int64_t filters, int64_t pooled_rows, int64_t pooled_columns, int relu, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < images * pooled_rows; line++) {
        int64_t image = line / pooled_rows, y = 2 * (line % pooled_rows);
        for (int64_t column = 0; column < pooled_columns; column++) {
            int64_t x = 2 * column, at = (line * pooled_columns + column) * filters;
            const REAL *first = convolved + ((image * rows + y) * columns + x) * filters;
            const REAL *window[4] = {first, first + filters, first + columns * filters, first + (columns + 1) * filters};
            if (x + 1 == columns) window[1] = window[3] = NULL;
            if (y + 1 == rows) window[2] = window[3] = NULL;
            int64_t f = 0;
            for (; f + LANES <= filters; f += LANES) pool_vector(pooled + at + f, winner + at + f, window, f, relu);
            for (; f < filters; f++) pool_one(pooled + at + f, winner + at + f, window, f, relu);
        }
    }
}

static void *room(int64_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

/* Sums of few rows ------------------------------------------------------------------------------------------------- */

typedef struct {
    REAL *value;
    int32_t *place; /* where its row begins */
    int32_t count;
} List;

static inline void put(List *list, REAL value, int32_t place) { /* zeros are left out, without a branch */
    list->value[list->count] = value;
    list->place[list->count] = place;
    list->count += value != 0;
}

/* to[0 .. length) += the list's values, each times from[place .. place + length). Reads up to LANES - 1 further. */
static inline __attribute__((always_inline)) void add_vectors(REAL *to, const REAL *from, const List *list, int length,
                                                              const int vectors) {
    vector sum[WIDEST] = {};
    for (int32_t i = 0; i < list->count; i++) {
        const REAL *row = from + list->place[i];
        vector value = (vector){} + list->value[i];
#pragma GCC unroll 12
        for (int v = 0; v < vectors; v++) sum[v] += value * *(const vector *)(row + v * LANES);
    }
    int last = vectors - 1;
#pragma GCC unroll 12
    for (int v = 0; v < last; v++) *(vector *)(to + v * LANES) += sum[v];
    if (length == vectors * LANES) {
        *(vector *)(to + last * LANES) += sum[last];
        return;
    }
    REAL rest[LANES];
    *(vector *)rest = sum[last];
    for (int lane = 0; lane < length - last * LANES; lane++) to[last * LANES + lane] += rest[lane];
}

static void add_rows(REAL *to, const REAL *from, const List *list, int length) {
    if (list->count == 0) return;
    switch ((length + LANES - 1) / LANES) {
#define CASE(n) \
    case n: add_vectors(to, from, list, length, n); return;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
}

/* A row of a kernel, columns times channels, is one run of numbers in an image as in the weights; long ones in parts. */
static int64_t part_of(int64_t length, int64_t widest) {
    int64_t vectors = (length + LANES - 1) / LANES, parts = (vectors + widest - 1) / widest;
    return (vectors + parts - 1) / parts * LANES;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Gradients -------------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t rows, columns, size, across; /* an image with its zeros; numbers in it, and in one of its rows */
    int64_t row, kernel;                 /* numbers in a row of a kernel, and in a kernel */
    int64_t offset[4];                   /* from a window's first place to its others, in an image with its zeros */
} Layout;

static Layout layout_of(const Shape *s) {
    Layout l = {.rows = s->rows + s->above + s->below, .columns = s->columns + s->left + s->right};
    l.across = l.columns * s->channels, l.size = l.rows * l.across;
    l.row = s->kernel_columns * s->channels, l.kernel = s->kernel_rows * l.row;
    l.offset[1] = s->channels, l.offset[2] = l.across, l.offset[3] = l.across + s->channels;
    return l;
}

/* Between an image and one with zeros around it. */
static void with_zeros(REAL *padded, const REAL *image, const Shape *s, const Layout *l) {
    memset(padded, 0, l->size * sizeof(REAL));
    for (int64_t y = 0; y < s->rows; y++)
        memcpy(padded + (y + s->above) * l->across + s->left * s->channels, image + y * s->columns * s->channels,
               s->columns * s->channels * sizeof(REAL));
}

static void without_zeros(REAL *image, const REAL *padded, const Shape *s, const Layout *l) {
    for (int64_t y = 0; y < s->rows; y++)
        memcpy(image + y * s->columns * s->channels, padded + (y + s->above) * l->across + s->left * s->channels,
               s->columns * s->channels * sizeof(REAL));
}

/* Where there is one channel a kernel's row is too short to be a run. Here lanes are filters, and one that did not win
   at a place adds 0 there. An image's part of the gradients: [kernel rows * kernel columns + 1][filters], bias last. */
static inline __attribute__((always_inline)) void of_one_channel(const Shape *s, const Layout *l, const REAL *padded,
                                                                 const REAL *gradient, const uint8_t *winner,
                                                                 REAL *part, const int size) {
    for (int64_t f = 0; f < s->filters; f += LANES) {
        vector sum[25] = {}, total = {};
        for (int64_t at = 0; at < s->pooled_rows * s->pooled_columns; at++) {
            const int64_t y = 2 * (at / s->pooled_columns), x = 2 * (at % s->pooled_columns), here = at * s->filters + f;
            const whole won = __builtin_convertvector(*(const small *)(winner + here), whole);
            const whole alive = (whole)*(const vector *)(gradient + here) & (won != DROPPED);
            total += (vector)alive;
#pragma GCC unroll 4
            for (int place = 0; place < 4; place++) {
                const vector mine = (vector)(alive & (won == place));
                const REAL *corner = padded + y * l->across + x + l->offset[place];
#pragma GCC unroll 25
                for (int tap = 0; tap < size * size; tap++) sum[tap] += mine * corner[tap / size * l->across + tap % size];
            }
        }
#pragma GCC unroll 25
        for (int tap = 0; tap < size * size; tap++) *(vector *)(part + tap * s->filters + f) = sum[tap];
        *(vector *)(part + size * size * s->filters + f) = total;
    }
}

static int is_one_channel(const Shape *s) {
    const int square = s->kernel_rows == s->kernel_columns && (s->kernel_rows == 3 || s->kernel_rows == 5);
    return s->channels == 1 && square && s->filters % LANES == 0;
}

static int one_channel_to_weights(const Shape *shape, const REAL *image, const REAL *gradient, const uint8_t *winner,
                                  REAL *weight, REAL *bias, int threads) {
    const Shape s = *shape;
    const Layout l = layout_of(&s);
    const int64_t pooled = s.pooled_rows * s.pooled_columns * s.filters, taps = l.kernel, size = (taps + 1) * s.filters;
    const int64_t each = l.size + l.across + 1; /* a window over the last row and column reads beyond the image */
    REAL *padded = room(threads * each * sizeof(REAL)), *parts = room(s.images * size * sizeof(REAL));
    if (!padded || !parts) {
        free(padded), free(parts);
        return 1;
    }
#pragma omp parallel num_threads(threads)
    {
        REAL *mine = padded + omp_get_thread_num() * each;
        memset(mine + l.size, 0, (l.across + 1) * sizeof(REAL));
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s.images; n++) {
            with_zeros(mine, image + n * s.rows * s.columns, &s, &l);
            if (s.kernel_rows == 3)
                of_one_channel(&s, &l, mine, gradient + n * pooled, winner + n * pooled, parts + n * size, 3);
            else
                of_one_channel(&s, &l, mine, gradient + n * pooled, winner + n * pooled, parts + n * size, 5);
        }
#pragma omp for schedule(static)
        for (int64_t f = 0; f < s.filters; f++)
            for (int64_t tap = 0; tap <= taps; tap++) {
                REAL sum = 0;
                for (int64_t n = 0; n < s.images; n++) sum += parts[n * size + tap * s.filters + f];
                *(tap < taps ? weight + f * taps + tap : bias + f) = sum;
            }
    }
    free(padded), free(parts);
    return 0;
}

/* Of the weights [filters][rows][columns][channels] and the bias [filters], from the pooled values' gradient. Each
   filter's is a sum over its winning places of the input beneath the kernel. Nonzero: no memory. */
int to_weights(const Shape *shape, const REAL *image, const REAL *gradient, const uint8_t *winner, REAL *weight,
               REAL *bias, int threads) {
    if (is_one_channel(shape)) return one_channel_to_weights(shape, image, gradient, winner, weight, bias, threads);
    const Shape s = *shape;
    const Layout l = layout_of(&s);
    const int64_t pooled = s.pooled_rows * s.pooled_columns, fair = (s.filters + threads - 1) / threads;
    const int64_t block_size = least(fair, BLOCK), blocks = (s.filters + block_size - 1) / block_size;
    const int64_t part = part_of(l.row, WIDEST);
    REAL *padded = room((s.images * l.size + LANES) * sizeof(REAL));
    REAL *values = room(threads * BLOCK * (pooled + 1) * sizeof(REAL));
    int32_t *places = room(threads * BLOCK * (pooled + 1) * sizeof(int32_t));
    if (!padded || !values || !places) {
        free(padded), free(values), free(places);
        return 1;
    }
    memset(padded + s.images * l.size, 0, LANES * sizeof(REAL));
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s.images; n++)
            with_zeros(padded + n * l.size, image + n * s.rows * s.columns * s.channels, &s, &l);
#pragma omp for schedule(dynamic, 1)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * block_size, filters = least(block_size, s.filters - first);
            int64_t mine = omp_get_thread_num() * BLOCK * (pooled + 1);
            List list[BLOCK];
            for (int64_t f = 0; f < BLOCK; f++, mine += pooled + 1)
                list[f].value = values + mine, list[f].place = places + mine;
            memset(weight + first * l.kernel, 0, filters * l.kernel * sizeof(REAL));
            memset(bias + first, 0, filters * sizeof(REAL));
            for (int64_t n = 0; n < s.images; n++) {
                for (int64_t f = 0; f < filters; f++) list[f].count = 0;
                for (int64_t at = 0; at < pooled; at++) {
                    const int64_t y = 2 * (at / s.pooled_columns), x = 2 * (at % s.pooled_columns);
                    const int64_t start = (n * pooled + at) * s.filters + first, corner = y * l.across + x * s.channels;
                    const int32_t place[] = {corner, corner + l.offset[1], corner + l.offset[2], corner + l.offset[3], 0};
                    for (int64_t f = 0; f < filters; f++) {
                        const uint8_t won = winner[start + f];
                        put(&list[f], won == DROPPED ? 0 : gradient[start + f], place[won]);
                    }
                }
                for (int64_t f = 0; f < filters; f++) {
                    REAL sum = 0;
                    for (int32_t i = 0; i < list[f].count; i++) sum += list[f].value[i];
                    bias[first + f] += sum;
                    for (int64_t r = 0; r < s.kernel_rows; r++)
                        for (int64_t p = 0; p < l.row; p += part)
                            add_rows(weight + (first + f) * l.kernel + r * l.row + p,
                                     padded + n * l.size + r * l.across + p, &list[f], least(part, l.row - p));
                }
            }
        }
    }
    free(padded), free(values), free(places);
    return 0;
}

/* Of the convolution's input. At each place of the convolved image it is a sum of the kernels of the filters that won
   there. Nonzero: no memory. */
int to_image(const Shape *shape, const REAL *weight, const REAL *gradient, const uint8_t *winner, REAL *image,
             int threads) {
    const Shape s = *shape;
    const Layout l = layout_of(&s);
    const int64_t pooled = s.pooled_rows * s.pooled_columns, lists = 4 * pooled, longest = s.filters + 1;
    const int64_t kernels = s.filters * l.kernel;
    const int64_t fits = FIRST_CACHE / (BYTES * s.filters); /* vectors of each filter that lie in the first cache together */
    const int64_t part = part_of(l.row, fits < 3 ? 3 : least(fits, WIDEST));
    REAL *copied = room((kernels + LANES) * sizeof(REAL)); /* may be read beyond its end */
    REAL *padded = room(threads * l.size * sizeof(REAL));
    REAL *values = room(threads * lists * longest * sizeof(REAL));
    int32_t *places = room(threads * lists * longest * sizeof(int32_t));
    List *all = room(threads * lists * sizeof(List));
    if (!copied || !padded || !values || !places || !all) {
        free(copied), free(padded), free(values), free(places), free(all);
        return 1;
    }
    memcpy(copied, weight, kernels * sizeof(REAL));
    memset(copied + kernels, 0, LANES * sizeof(REAL));
#pragma omp parallel num_threads(threads)
    {
        const int64_t thread = omp_get_thread_num();
        REAL *mine = padded + thread * l.size;
        List *list = all + thread * lists;
        for (int64_t i = 0; i < lists; i++)
            list[i].value = values + (thread * lists + i) * longest, list[i].place = places + (thread * lists + i) * longest;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < s.images; n++) {
            for (int64_t at = 0; at < pooled; at++) {
                const int64_t start = (n * pooled + at) * s.filters;
                List *window = list + 4 * at;
                for (int place = 0; place < 4; place++) window[place].count = 0;
                for (int64_t f = 0; f < s.filters; f++) {
                    const uint8_t won = winner[start + f];
                    put(&window[won & 3], won == DROPPED ? 0 : gradient[start + f], f * l.kernel);
                }
            }
            memset(mine, 0, l.size * sizeof(REAL));
            for (int64_t r = 0; r < s.kernel_rows; r++)
                for (int64_t p = 0; p < l.row; p += part)
                    for (int64_t i = 0; i < lists; i++) {
                        const int64_t y = 2 * (i / 4 / s.pooled_columns), x = 2 * (i / 4 % s.pooled_columns);
                        add_rows(mine + y * l.across + x * s.channels + l.offset[i % 4] + r * l.across + p,
                                 copied + r * l.row + p, &list[i], least(part, l.row - p));
                    }
            without_zeros(image + n * s.rows * s.columns * s.channels, mine, &s, &l);
        }
    }
    free(copied), free(padded), free(values), free(places), free(all);
    return 0;
}

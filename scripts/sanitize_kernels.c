/* Calls the kernels of pooled.c on shapes from standard input, and compares them with plain loops.

   A line is: images rows columns channels filters kernel_rows kernel_columns pad_rows pad_columns ceil relu threads seed.
   Every array has exactly the size that pooled.py gives it, so that a sanitizer sees each access beyond its end.

   The part of OpenMP that pooled.c uses is written here with pthreads. gcc's own libgomp is not instrumented, so that
   ThreadSanitizer would not know of its barriers, and would accuse correct code. */

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif

/* OpenMP ----------------------------------------------------------------------------------------------------------- */

enum { MOST_THREADS = 16 };

static struct {
    void (*work)(void *);
    void *data;
    int threads;
    pthread_barrier_t barrier;
    pthread_mutex_t lock;
    long next[64], end;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER};

static __thread int number;
static __thread int loops; /* dynamic loops that this thread has begun in this region */

int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return team.threads; }
void GOMP_barrier(void) { pthread_barrier_wait(&team.barrier); }

static void *run(void *which) {
    number = (int)(intptr_t)which, loops = 0;
    team.work(team.data);
    return NULL;
}

void GOMP_parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags) {
    (void)flags;
    pthread_t other[MOST_THREADS];
    team.work = work, team.data = data, team.threads = (int)threads;
    memset(team.next, 0, sizeof team.next);
    pthread_barrier_init(&team.barrier, NULL, threads);
    for (intptr_t i = 1; i < (intptr_t)threads; i++) pthread_create(&other[i], NULL, run, (void *)i);
    run(0);
    for (unsigned i = 1; i < threads; i++) pthread_join(other[i], NULL);
    pthread_barrier_destroy(&team.barrier);
    team.threads = 1, number = 0;
}

static bool next_part(long first, long end, long step, long chunk, long *from, long *to) {
    pthread_mutex_lock(&team.lock);
    long *next = &team.next[loops];
    *from = first + *next * step * chunk, *next += 1;
    pthread_mutex_unlock(&team.lock);
    *to = *from + step * chunk < end ? *from + step * chunk : end;
    return *from < end;
}

static __thread long first_, end_, step_, chunk_;

bool GOMP_loop_nonmonotonic_dynamic_start(long first, long end, long step, long chunk, long *from, long *to) {
    first_ = first, end_ = end, step_ = step, chunk_ = chunk, loops++;
    return next_part(first, end, step, chunk, from, to);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to) { return next_part(first_, end_, step_, chunk_, from, to); }
bool GOMP_loop_dynamic_start(long a, long b, long c, long d, long *e, long *f) {
    return GOMP_loop_nonmonotonic_dynamic_start(a, b, c, d, e, f);
}
bool GOMP_loop_dynamic_next(long *from, long *to) { return GOMP_loop_nonmonotonic_dynamic_next(from, to); }
void GOMP_loop_end(void) { GOMP_barrier(); }
void GOMP_loop_end_nowait(void) {}

/* The kernels ------------------------------------------------------------------------------------------------------ */

typedef struct {
    int64_t images, rows, columns, channels, filters, kernel_rows, kernel_columns, above, left, below, right, pooled_rows,
        pooled_columns;
} Shape;

void max_pool(const REAL *, REAL *, uint8_t *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int, int);
int to_weights(const Shape *, const REAL *, const REAL *, const uint8_t *, REAL *, REAL *, int);
int to_image(const Shape *, const REAL *, const REAL *, const uint8_t *, REAL *, int);

/* Cases ------------------------------------------------------------------------------------------------------------ */

static uint64_t state;

static double drawn(void) { /* from -1 to 1, often 0 */
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double value = (double)(state >> 33) / (double)(1u << 30) - 1;
    return state >> 61 == 0 ? 0 : value;
}

static void *array(int64_t count, size_t size) {
    void *made = malloc((size_t)count * size);
    if (!made) abort();
    return made;
}

static REAL *random_array(int64_t count) {
    REAL *made = array(count, sizeof(REAL));
    for (int64_t i = 0; i < count; i++) made[i] = (REAL)drawn();
    return made;
}

static int differ(const char *what, const REAL *found, const double *expected, int64_t count, double scale) {
    const double allowed = (sizeof(REAL) == 4 ? 1e-5 : 1e-13) * (scale + 1);
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(found[i] - expected[i]) <= allowed)) {
            printf("%s[%" PRId64 "] is %g, expected %g\n", what, i, (double)found[i], expected[i]);
            return 1;
        }
    return 0;
}

static int check_pool(const Shape *s, int64_t rows, int64_t columns, int relu, int threads, uint8_t *winner) {
    REAL *convolved = random_array(s->images * rows * columns * s->filters);
    const int64_t count = s->images * s->pooled_rows * s->pooled_columns * s->filters;
    REAL *pooled = array(count, sizeof(REAL));
    int wrong = 0;
    max_pool(convolved, pooled, winner, s->images, rows, columns, s->filters, s->pooled_rows, s->pooled_columns, relu,
             threads);
    for (int64_t i = 0; i < count && !wrong; i++) {
        const int64_t f = i % s->filters, x = i / s->filters % s->pooled_columns;
        const int64_t y = i / s->filters / s->pooled_columns % s->pooled_rows;
        const int64_t n = i / s->filters / s->pooled_columns / s->pooled_rows;
        REAL best = -INFINITY;
        int place = 0;
        for (int p = 0; p < 4; p++) {
            const int64_t row = 2 * y + p / 2, column = 2 * x + p % 2;
            if (row >= rows || column >= columns) continue;
            const REAL value = convolved[((n * rows + row) * columns + column) * s->filters + f];
            if (value > best) best = value, place = p;
        }
        if (relu && best <= 0) best = 0, place = 4;
        wrong = pooled[i] != best || winner[i] != place;
        if (wrong) printf("pooled[%" PRId64 "] is %g of %d, expected %g of %d\n", i, (double)pooled[i], winner[i], (double)best, place);
    }
    free(convolved), free(pooled);
    return wrong;
}

static int check_gradients(const Shape *s, int threads, const uint8_t *winner) {
    const int64_t kernel = s->kernel_rows * s->kernel_columns * s->channels;
    const int64_t numbers = s->images * s->rows * s->columns * s->channels, weights = s->filters * kernel;
    const int64_t count = s->images * s->pooled_rows * s->pooled_columns * s->filters;
    REAL *image = random_array(numbers), *gradient = random_array(count), *weight = random_array(weights);
    REAL *of_weight = array(weights, sizeof(REAL)), *of_bias = array(s->filters, sizeof(REAL));
    REAL *of_image = array(numbers, sizeof(REAL));
    double *plain_weight = calloc((size_t)weights, sizeof(double)), *plain_bias = calloc((size_t)s->filters, sizeof(double));
    double *plain_image = calloc((size_t)numbers, sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        if (winner[i] == 4) continue;
        const int64_t f = i % s->filters, x = i / s->filters % s->pooled_columns;
        const int64_t y = i / s->filters / s->pooled_columns % s->pooled_rows;
        const int64_t n = i / s->filters / s->pooled_columns / s->pooled_rows;
        plain_bias[f] += gradient[i];
        for (int64_t k = 0; k < kernel; k++) {
            const int64_t c = k % s->channels, column = 2 * x + winner[i] % 2 + k / s->channels % s->kernel_columns - s->left;
            const int64_t row = 2 * y + winner[i] / 2 + k / s->channels / s->kernel_columns - s->above;
            if (row < 0 || row >= s->rows || column < 0 || column >= s->columns) continue;
            const int64_t at = ((n * s->rows + row) * s->columns + column) * s->channels + c;
            plain_weight[f * kernel + k] += (double)gradient[i] * image[at];
            plain_image[at] += (double)gradient[i] * weight[f * kernel + k];
        }
    }
    int wrong = to_weights(s, image, gradient, winner, of_weight, of_bias, threads);
    wrong = wrong || to_image(s, weight, gradient, winner, of_image, threads);
    const double terms = (double)(s->images * s->pooled_rows * s->pooled_columns);
    wrong = wrong || differ("weight", of_weight, plain_weight, weights, terms);
    wrong = wrong || differ("bias", of_bias, plain_bias, s->filters, terms);
    wrong = wrong || differ("image", of_image, plain_image, numbers, (double)(s->filters * kernel));
    free(image), free(gradient), free(weight), free(of_weight), free(of_bias), free(of_image);
    free(plain_weight), free(plain_bias), free(plain_image);
    return wrong;
}

int main(void) {
    int64_t v[13];
    long done = 0;
    for (;;) {
        for (int i = 0; i < 13; i++)
            if (scanf("%" SCNd64, &v[i]) != 1) return printf("%ld cases\n", done), 0;
        Shape s = {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[7], v[8], 0, 0};
        const int64_t rows = s.rows + 2 * v[7] - s.kernel_rows + 1, columns = s.columns + 2 * v[8] - s.kernel_columns + 1;
        s.pooled_rows = (rows + v[9]) / 2, s.pooled_columns = (columns + v[9]) / 2, state = (uint64_t)v[12];
        uint8_t *winner = array(s.images * s.pooled_rows * s.pooled_columns * s.filters, 1);
        if (check_pool(&s, rows, columns, (int)v[10], (int)v[11], winner) || check_gradients(&s, (int)v[11], winner)) {
            printf("case %ld is wrong\n", done);
            return 1;
        }
        free(winner), done++;
    }
}

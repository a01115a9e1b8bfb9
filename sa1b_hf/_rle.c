/* Kernels of the COCO run-length codec.
 *
 * A mask is read in three steps, each over memory that stays in cache:
 *   1. its string becomes the positions at which its runs end (column-major pixels), fully checked;
 *   2. a run that covers rows r0 to r1 of a column flips one bit at r0 and one at r1 in a bitmap of the mask's own
 *      box, one bit a pixel, row-major; a run that goes on into the next column flips that column's row 0 too;
 *   3. the rows are swept from the top, XOR-ing each with what is above, into bytes, bits, labels or a crop.
 * Nothing is written for a mask that does not pass step 1, and nothing is read outside of its string.
 *
 * The functions of the Python module take addresses; `_rle_native.py` alone calls them, and checks every array first.
 * (The buffer protocol is not part of the limited API before 3.11.) No Python object is touched without the GIL.
 *
 * With RLE_WITHOUT_PYTHON defined the file compiles without Python, for the fuzzer.
 */
#ifndef RLE_WITHOUT_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define X86_TARGETS 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define X86_TARGETS 0
#endif
#if defined(__GNUC__)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define PREFETCH_WRITE(address) __builtin_prefetch((address), 1)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define LIKELY(x) (x)
#define PREFETCH_WRITE(address) ((void)0)
#define ALWAYS_INLINE static inline
#endif
#if defined(_MSC_VER)
#include <intrin.h>
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BIG_ENDIAN_HOST 1
#else
#define BIG_ENDIAN_HOST 0
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

enum { GOOD = 0, MALFORMED = 1, NO_MEMORY = 2 };
enum { MAX_DIGITS = 7, BLOCK = 64, BAND_ROWS = 16, ENDS_SPARE = 16, PIECES_SPARE = 16 };
/* Positions are below 2**28: the caps on a mask's size, checked before any call, are a little under that. */
enum { POSITION_BITS = 28 };

static int simd_level = 0; /* 0 portable, 1 AVX2, 2 AVX-512, 3 with VBMI2 */
static int has_clzero = 0; /* AMD's way to zero a cache line without reading it */

/* ------------------------------------------------------------------ words */

ALWAYS_INLINE u64 load_le64(const u8 *from)
{
    u64 word;
    memcpy(&word, from, 8);
#if BIG_ENDIAN_HOST
    word = __builtin_bswap64(word);
#endif
    return word;
}

ALWAYS_INLINE void store_le64(u8 *to, u64 word)
{
#if BIG_ENDIAN_HOST
    word = __builtin_bswap64(word);
#endif
    memcpy(to, &word, 8);
}

ALWAYS_INLINE int lowest_bit(u64 word)
{
#if defined(__GNUC__)
    return __builtin_ctzll(word);
#elif defined(_M_X64) || defined(_M_ARM64)
    unsigned long index;
    _BitScanForward64(&index, word);
    return (int)index;
#else
    int index = 0;
    for (; !(word & 1); word >>= 1) index++;
    return index;
#endif
}

ALWAYS_INLINE int count_bits(u64 word)
{
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    return (int)((((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u) >> 56);
}

/* Bits 0, 8, 16 … of a word, in this order in one byte. */
ALWAYS_INLINE u64 gather_bytes(u64 word) { return (word * 0x0102040810204080u) >> 56; }

ALWAYS_INLINE u64 reverse_in_bytes(u64 word)
{
    word = ((word >> 1) & 0x5555555555555555u) | ((word & 0x5555555555555555u) << 1);
    word = ((word >> 2) & 0x3333333333333333u) | ((word & 0x3333333333333333u) << 2);
    return ((word >> 4) & 0x0f0f0f0f0f0f0f0fu) | ((word & 0x0f0f0f0f0f0f0f0fu) << 4);
}

/* ------------------------------------------------------------------ scratch memory of one thread */

typedef struct {
    u32 *ends;
    size_t ends_size;
    u64 *flips; /* all zero between masks */
    size_t flips_size;
    u64 *above; /* one row */
    size_t above_size;
    u64 *rows; /* two bands */
    size_t rows_size;
    u32 *first_row, *first_column; /* source index -> first target index at or after it */
    u32 *only_column;              /* source column -> its target column, NOWHERE if it has none; not if it has more */
    size_t row_size, column_size, only_size;
    u32 *pieces; /* runs within one column: where they start and stop, and their column */
    size_t pieces_size;
    i64 source_height, source_width, target_height, target_width; /* what these two were made for */
} Scratch;

static int reserve(void *pointer, size_t *size, size_t wanted, size_t item, int zeroed)
{
    void *memory;
    if (LIKELY(*size >= wanted)) return 1;
    wanted += wanted / 4 + 16;
    memcpy(&memory, pointer, sizeof memory);
    free(memory);
    memory = zeroed ? calloc(wanted, item) : malloc(wanted * item);
    *size = memory ? wanted : 0;
    memcpy(pointer, &memory, sizeof memory);
    return memory != NULL;
}

static void release(Scratch *scratch)
{
    free(scratch->ends);
    free(scratch->flips);
    free(scratch->above);
    free(scratch->rows);
    free(scratch->first_row);
    free(scratch->first_column);
    free(scratch->only_column);
    free(scratch->pieces);
}

/* ------------------------------------------------------------------ 1. string -> ends of runs */

/* 64 characters at a time: `*last` gets a bit for each character that ends a number; gives whether all are allowed. */
ALWAYS_INLINE u64 classify(const u8 *text, u64 *last)
{
    u64 ends = 0, outside = 0;
    int i;
    for (i = 0; i < 8; i++) {
        /* A borrow out of a character below 48 reaches only those above it, and it is itself found out. */
        u64 groups = load_le64(text + 8 * i) - 0x3030303030303030u;
        outside |= groups;
        ends |= gather_bytes((~groups >> 5) & 0x0101010101010101u) << (8 * i);
    }
    *last = ends;
    return outside & 0xc0c0c0c0c0c0c0c0u;
}

/* The lower five bits of each of the first `digits` (1 to 7) characters, one after another. */
ALWAYS_INLINE u64 join_groups(u64 groups, u32 digits)
{
    u64 bits = (groups & 0x1f) | ((groups >> 3) & 0x3e0);
    if (!LIKELY(digits <= 2)) {
        bits = (groups & 0x001f001f001f001fu) | ((groups & 0x1f001f001f001f00u) >> 3);
        bits = (bits & 0x000003ff000003ffu) | ((bits & 0x03ff000003ff0000u) >> 6);
        bits = (bits & 0x00000000000fffffu) | ((bits & 0x000fffff00000000u) >> 12);
    }
    return bits;
}

/* Whether seven neighbouring characters say that more of their number follows. */
ALWAYS_INLINE u64 has_overlong(u64 finals)
{
    u64 more = ~finals;
    more &= more >> 1;
    more &= more >> 2;
    return more & (more >> 3);
}

/* Read one number, of `*used` characters. */
static int read_number(const u8 *text, i64 length, i64 *number, i64 *used)
{
    i64 i, value = 0;
    for (i = 0; i < length && i < MAX_DIGITS; i++) {
        const int group = text[i] - 48;
        if (group < 0 || group > 63) return MALFORMED;
        value |= (i64)(group & 31) << (5 * i);
        if (group & 32) continue;
        *number = group & 16 ? value - ((i64)32 << (5 * i)) : value;
        *used = i + 1;
        return GOOD;
    }
    return MALFORMED;
}

/* Read one mask's string. `ends` has room for as many runs as there are characters, and ENDS_SPARE more. JOIN gives what `join_groups` does:
 * a macro, so that each instruction set has its own. */
#define PARSE(NAME, JOIN)                                                                              \
    static int NAME(const u8 *text, i64 length, i64 total, u32 *ends, i64 *num_runs)                   \
    {                                                                                                  \
        u8 tail[3 * BLOCK];                                                                            \
        i64 at, start, position, last = 0, before = 0, negative = 0;                                   \
        u32 *end = ends;                                                                               \
        if (read_number(text, length, &position, &start) != GOOD || position < 0) return MALFORMED;    \
        *end++ = (u32)position;                                                                        \
        for (at = start; at < length; at += BLOCK) {                                                   \
            u64 finals;                                                                                \
            if (text != tail && at + BLOCK + 8 > length) {                                             \
                /* The rest goes on in a copy with room behind it, so that whole words can be read. */ \
                if (at - start > MAX_DIGITS) return MALFORMED;                                         \
                length -= start;                                                                       \
                at -= start;                                                                           \
                memcpy(tail, text + start, (size_t)length);                                            \
                memset(tail + length, 48, sizeof tail - (size_t)length);                               \
                text = tail;                                                                           \
                start = 0;                                                                             \
            }                                                                                          \
            if (classify(text + at, &finals) || has_overlong(finals)) return MALFORMED;                \
            if (length - at < BLOCK) finals &= ((u64)1 << (length - at)) - 1;                          \
            if (finals && at + lowest_bit(finals) - start >= MAX_DIGITS) return MALFORMED;             \
            for (; finals; finals &= finals - 1) {                                                     \
                const i64 stop = at + lowest_bit(finals) + 1;                                          \
                const u32 digits = (u32)(stop - start);                                                \
                const u64 groups = load_le64(text + start) ^ 0x1010101010101010u; /* - 48, modulo 32 */ \
                const u32 unused = 64 - 5 * digits;                                                    \
                const i64 run = ((i64)((u64)(JOIN(groups, digits)) << unused) >> unused) + before;     \
                before = last;                                                                         \
                last = run;                                                                            \
                negative |= run;                                                                       \
                position += run;                                                                       \
                *end++ = (u32)position;                                                                \
                start = stop;                                                                          \
            }                                                                                          \
            if (negative < 0 || position > total) return MALFORMED;                                    \
        }                                                                                              \
        *num_runs = end - ends;                                                                        \
        return start == length && position == total ? GOOD : MALFORMED;                                \
    }
PARSE(parse_portable, join_groups)
#if X86_TARGETS
/* Zen 1 and 2 have AVX2 but a slow `pext`; no processor with AVX-512 has. */
#define JOIN_PEXT(groups, digits) _pext_u64((groups), 0x1f1f1f1f1f1f1f1fu)
__attribute__((target("bmi,bmi2"))) PARSE(parse_pext, JOIN_PEXT)
#define RLE_PARSING
#include "_rle_avx512.h"
#undef RLE_PARSING
#endif

static int parse(const u8 *text, i64 length, i64 total, u32 *ends, i64 *num_runs)
{
#if X86_TARGETS
    if (simd_level >= 3) return parse_vbmi(text, length, total, ends, num_runs);
    if (simd_level >= 2) return parse_pext(text, length, total, ends, num_runs);
#endif
    return parse_portable(text, length, total, ends, num_runs);
}

/* Exact division of positions below 2**28 by a height. */
typedef struct {
    u64 factor;
    int shift;
} Divider;

static Divider make_divider(i64 height)
{
    Divider divider;
    divider.shift = POSITION_BITS;
    while (((i64)1 << (divider.shift - POSITION_BITS)) < height) divider.shift++;
    divider.factor = (((u64)1 << divider.shift) + (u64)height - 1) / (u64)height;
    return divider;
}

ALWAYS_INLINE i64 divide(u64 position, Divider by) { return (i64)((position * by.factor) >> by.shift); }

/* ------------------------------------------------------------------ a call's masks */

typedef struct {
    const u8 *text;
    const i64 *offsets, *sizes; /* mask i: text[offsets[i]:offsets[i + 1]], sizes[2 i] by sizes[2 i + 1] pixels */
    i64 num_masks;
    u8 *status;
    i64 *next; /* shared by the threads of a call */
} Job;

typedef struct {
    i64 x0, y0, x1, y1;
} Box;

static i64 take_mask(const Job *job)
{
#if defined(_MSC_VER) && !defined(__clang__)
    return _InterlockedExchangeAdd64(job->next, 1);
#else
    return __atomic_fetch_add(job->next, 1, __ATOMIC_RELAXED);
#endif
}

static int parse_mask(const Job *job, i64 index, Scratch *scratch, i64 *num_runs)
{
    i64 begin = job->offsets[index], length = job->offsets[index + 1] - begin;
    i64 total = job->sizes[2 * index] * job->sizes[2 * index + 1];
    if (!reserve(&scratch->ends, &scratch->ends_size, (size_t)length + ENDS_SPARE, sizeof(u32), 0)) return NO_MEMORY;
    return parse(job->text + begin, length, total, scratch->ends, num_runs);
}

/* First and last foreground pixel; 0 if there is none. */
static int find_foreground(const u32 *ends, i64 num_runs, u32 *first, u32 *last)
{
    i64 i, j = num_runs & ~(i64)1;
    for (i = 0; i + 1 < num_runs && ends[i] == ends[i + 1]; i += 2) {}
    if (i + 1 >= num_runs) return 0;
    for (; ends[j - 2] == ends[j - 1]; j -= 2) {}
    *first = ends[i];
    *last = ends[j - 1] - 1;
    return 1;
}

static i64 measure(const u32 *ends, i64 num_runs, i64 height, Box *box)
{
    const Divider by = make_divider(height);
    u32 first, last;
    i64 i, area = 0, top = height, bottom = 0;
    memset(box, 0, sizeof *box);
    if (!find_foreground(ends, num_runs, &first, &last)) return 0;
    for (i = 1; i < num_runs; i += 2) {
        i64 length = (i64)ends[i] - ends[i - 1];
        i64 row = ends[i - 1] - divide(ends[i - 1], by) * height;
        if (!LIKELY(length)) continue;
        area += length;
        top = row < top ? row : top;
        bottom = row + length > bottom ? row + length : bottom;
    }
    box->x0 = divide(first, by);
    box->x1 = divide(last, by) + 1;
    box->y0 = bottom > height ? 0 : top;
    box->y1 = bottom > height ? height : bottom;
    return area;
}

/* ------------------------------------------------------------------ 2. ends of runs -> flips */

typedef struct {
    Box box;
    i64 stride; /* words of a row of flips */
} Grid;

#define NOWHERE (~(u32)0)

/* For each source index up to `source` + 1: the first target pixel whose source pixel is at or after it. */
static int fill_lookup(u32 **lookup, size_t *size, i64 source, i64 target)
{
    const double scale = 1.0 / ((double)target / (double)source); /* OpenCV's INTER_NEAREST, rounding included */
    i64 from, to = 0;
    if (!reserve(lookup, size, (size_t)source + 2, sizeof(u32), 0)) return 0;
    for (from = 0; from < source; from++) {
        while (to < target && (i64)(to * scale) < from) to++;
        (*lookup)[from] = (u32)to;
    }
    (*lookup)[source] = (*lookup)[source + 1] = (u32)target;
    return 1;
}

static int prepare_lookups(Scratch *scratch, i64 height, i64 width, i64 target_height, i64 target_width)
{
    i64 column;
    if (scratch->source_height == height && scratch->source_width == width) return 1;
    scratch->source_height = 0;
    if (!fill_lookup(&scratch->first_row, &scratch->row_size, height, target_height)) return 0;
    if (!fill_lookup(&scratch->first_column, &scratch->column_size, width, target_width)) return 0;
    if (!reserve(&scratch->only_column, &scratch->only_size, (size_t)width, sizeof(u32), 0)) return 0;
    for (column = 0; column < width; column++) {
        const u32 *first = scratch->first_column + column;
        scratch->only_column[column] = first[0] < first[1] ? first[0] : NOWHERE;
    }
    scratch->source_height = height;
    scratch->source_width = width;
    return 1;
}

ALWAYS_INLINE void flip(u64 *row, i64 column) { row[column >> 6] ^= (u64)1 << (column & 63); }

static void flip_range(u64 *row, i64 begin, i64 end)
{
    for (; begin < end && (begin & 63); begin++) flip(row, begin);
    for (; begin + 64 <= end; begin += 64) row[begin >> 6] ^= ~(u64)0;
    for (; begin < end; begin++) flip(row, begin);
}

enum { SAME_SIZE, NOT_WIDER, WIDER };

/* Widens the box to their rows. `rows` and `columns` are looked into only for another size; `kind` is a constant for the
 * compiler. */
ALWAYS_INLINE void flip_runs(const u32 *ends, i64 num_runs, i64 height, const u32 *rows, const u32 *columns,
                             u64 *flips, Grid *grid, int kind)
{
    const Divider by = make_divider(height);
    const i64 stride = grid->stride, x0 = grid->box.x0;
    i64 i, top = grid->box.y0, bottom = grid->box.y1;
#define ROW(row) (kind == SAME_SIZE ? (row) : (i64)rows[row])
#define COLUMN(column) ((kind == SAME_SIZE ? (column) : (i64)columns[column]) - x0)
    for (i = 1; i < num_runs; i += 2) {
        i64 start = ends[i - 1], length = ends[i] - start, column = divide((u64)start, by);
        i64 row = start - column * height, stop = row + length, y0, y1, x;
        if (LIKELY(stop <= height)) {
            if (!LIKELY(length)) continue;
            x = COLUMN(column);
            if (kind == NOT_WIDER && COLUMN(column + 1) == x) continue;
            y0 = ROW(row);
            y1 = ROW(stop);
            if (kind == WIDER) {
                flip_range(flips + y0 * stride, x, COLUMN(column + 1));
                flip_range(flips + y1 * stride, x, COLUMN(column + 1));
            } else {
                flip(flips + y0 * stride, x);
                flip(flips + y1 * stride, x);
            }
            top = y0 < top ? y0 : top;
            bottom = y1 > bottom ? y1 : bottom;
        } else {
            /* Down to the bottom, whole columns, and into a last one: their rows 0 flip, the last one's end does. */
            i64 last = divide((u64)ends[i] - 1, by), end = ends[i] - last * height;
            flip_range(flips + ROW(row) * stride, COLUMN(column), COLUMN(column + 1));
            flip_range(flips + ROW(height) * stride, COLUMN(column), COLUMN(last));
            flip_range(flips, COLUMN(column + 1), COLUMN(last + 1));
            flip_range(flips + ROW(end) * stride, COLUMN(last), COLUMN(last + 1));
            top = 0;
            bottom = ROW(height);
        }
    }
#undef ROW
#undef COLUMN
    grid->box.y0 = top;
    grid->box.y1 = bottom;
}

#if X86_TARGETS
#define RLE_FLIPPING
#include "_rle_avx512.h"
#undef RLE_FLIPPING
#endif

/* Put mask `index` as flips on the grid of the target size; an empty box if nothing of it is there. `align` pixels is
 * what the box's left side is a multiple of. */
static int flip_mask(const Job *job, i64 index, i64 target_height, i64 target_width, i64 align, Scratch *scratch,
                     Grid *grid)
{
    const i64 height = job->sizes[2 * index], width = job->sizes[2 * index + 1];
    const int same = height == target_height && width == target_width;
    const Divider by = make_divider(height);
    u32 first, last;
    i64 num_runs;
    int status = parse_mask(job, index, scratch, &num_runs);
    memset(grid, 0, sizeof *grid);
    if (status != GOOD || !find_foreground(scratch->ends, num_runs, &first, &last)) return status;
    grid->box.x0 = divide(first, by);
    grid->box.x1 = divide(last, by) + 1;
    if (!same) {
        if (!prepare_lookups(scratch, height, width, target_height, target_width)) return NO_MEMORY;
        grid->box.x0 = scratch->first_column[grid->box.x0];
        grid->box.x1 = scratch->first_column[grid->box.x1];
        if (grid->box.x0 == grid->box.x1) return GOOD;
    }
    grid->box.x0 -= grid->box.x0 % align;
    grid->stride = (grid->box.x1 - grid->box.x0 + 63) / 64;
    if (!reserve(&scratch->flips, &scratch->flips_size, (size_t)((target_height + 1) * grid->stride), 8, 1))
        return NO_MEMORY;
    grid->box.y0 = INT64_MAX;
#if X86_TARGETS
    if (simd_level >= 3 && (same || target_width <= width)) {
        if (!reserve(&scratch->pieces, &scratch->pieces_size, (size_t)(3 * (num_runs / 2 + PIECES_SPARE)), 4, 0))
            return NO_MEMORY;
        flip_runs_vbmi(num_runs, height, scratch, grid, same);
    } else
#endif
    if (same)
        flip_runs(scratch->ends, num_runs, height, NULL, NULL, scratch->flips, grid, SAME_SIZE);
    else if (target_width <= width)
        flip_runs(scratch->ends, num_runs, height, scratch->first_row, scratch->first_column, scratch->flips, grid,
                  NOT_WIDER);
    else
        flip_runs(scratch->ends, num_runs, height, scratch->first_row, scratch->first_column, scratch->flips, grid,
                  WIDER);
    if (grid->box.y0 >= grid->box.y1) { /* flips that cancelled one another, or none */
        grid->box.y0 = grid->box.y1 = 0;
        grid->box.x1 = grid->box.x0;
    }
    return GOOD;
}

/* ------------------------------------------------------------------ 3. flips -> pixels */

/* Eight bits to eight bytes of 0 or 1, lowest bit first. */
ALWAYS_INLINE u64 spread_bits(u64 bits)
{
    return (((bits & 0x7f) * 0x0002040810204081u) & 0x0101010101010101u) | ((bits & 0x80) << 49);
}

ALWAYS_INLINE void expand_portable(u8 *to, u64 bits)
{
    int i;
    for (i = 0; i < 8; i++) store_le64(to + 8 * i, spread_bits((bits >> (8 * i)) & 255));
}

/* Up to BAND_ROWS rows of a box. Bit z of word k of `row` is column 64 k + z; words before the first and after the last
 * are zero. Only words [low, high) have pixels. A word is `word_bytes` at `to`. */
typedef struct {
    const u64 *row;
    u8 *to;
    i64 count, low, high;
    i64 after; /* rows of the box below */
    i64 words, pitch, to_stride, word_bytes, row_bytes;
    const u8 *plane, *plane_end;
    int alone; /* the plane's bytes within 64 of a row's are zero and no other row's */
} Band;

typedef void Emitter(const Band *band, u32 label);

/* For each word run `FULL`, which may write all of it even where that goes past the box's right side: there are zeros,
 * or a row is yet to be written. Where it would go past the end of the box's last row, run `EXACT`. */
#define EMIT_ROWS(WORD_BYTES, FULL, EXACT)                                                \
    do {                                                                                  \
        const i64 words = band->words, low = band->low, high = band->high;                \
        const i64 row_bytes = band->row_bytes, to_stride = band->to_stride;               \
        const i64 spill = words * (WORD_BYTES)-row_bytes;                                 \
        i64 below = (band->count - 1 + band->after) * to_stride, k;                       \
        const i64 end = below - band->count * to_stride;                                  \
        const u64 *row = band->row;                                                       \
        u8 *out = band->to;                                                               \
        for (; below > end; below -= to_stride, row += band->pitch, out += to_stride) {   \
            const int careful = spill > below && high == words;                           \
            for (k = low; k < high - careful; k++) {                                      \
                u8 *to = out + (WORD_BYTES)*k;                                            \
                const u64 pixels = row[k];                                                \
                FULL;                                                                     \
            }                                                                             \
            if (careful) {                                                                \
                u8 *to = out + (WORD_BYTES)*k;                                            \
                const u64 pixels = row[k];                                                \
                const size_t room = (size_t)(row_bytes - (WORD_BYTES)*k);                 \
                EXACT;                                                                    \
            }                                                                             \
        }                                                                                 \
    } while (0)

#define EMIT_BYTES(EXPAND)                 \
    EMIT_ROWS(64, EXPAND(to, pixels), {    \
        u8 last[64];                       \
        EXPAND(last, pixels);              \
        memcpy(to, last, room);            \
    })

static void emit_bytes_portable(const Band *band, u32 label)
{
    (void)label;
    EMIT_BYTES(expand_portable);
}

#define EMIT_BITS(ORDER)                   \
    EMIT_ROWS(8, store_le64(to, ORDER), {  \
        u8 last[8];                        \
        store_le64(last, ORDER);           \
        memcpy(to, last, room);            \
    })

static void emit_bits_portable(const Band *band, u32 little)
{
    if (little)
        EMIT_BITS(pixels);
    else
        EMIT_BITS(reverse_in_bytes(pixels));
}

static void emit_zeros_portable(const Band *band, u32 label)
{
    const size_t begin = (size_t)(band->low * band->word_bytes);
    const size_t end = (size_t)(band->high < band->words ? band->high * band->word_bytes : band->row_bytes);
    u8 *out = band->to + begin;
    i64 y;
    (void)label;
    for (y = 0; y < band->count; y++, out += band->to_stride) memset(out, 0, end - begin);
}

/* Labels go where bits are, span by span, and nowhere else. */
#define EMIT_LABELS(LABEL, NAME)                                                         \
    ALWAYS_INLINE void NAME##_word(u8 *to, u64 pixels, LABEL label)                      \
    {                                                                                    \
        LABEL *labels = (LABEL *)(void *)to;                                             \
        while (pixels) {                                                                 \
            int begin = lowest_bit(pixels), end;                                         \
            pixels |= ((u64)1 << begin) - 1;                                             \
            end = pixels == ~(u64)0 ? 64 : lowest_bit(~pixels);                          \
            pixels = end == 64 ? 0 : pixels & (~(u64)0 << end);                          \
            for (; begin < end; begin++) labels[begin] = label;                          \
        }                                                                                \
    }                                                                                    \
    static void NAME(const Band *band, u32 label)                                        \
    {                                                                                    \
        EMIT_ROWS(64 * (i64)sizeof(LABEL), NAME##_word(to, pixels, (LABEL)label), {      \
            (void)room;                                                                  \
            NAME##_word(to, pixels, (LABEL)label);                                       \
        });                                                                              \
    }
EMIT_LABELS(u8, emit_labels8_portable)
EMIT_LABELS(u16, emit_labels16_portable)
EMIT_LABELS(u32, emit_labels32_portable)

#if X86_TARGETS
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512bw,avx512dq,bmi,bmi2,lzcnt,popcnt")))

AVX2 static inline void expand_avx2(u8 *to, u64 bits)
{
    const __m256i byte_of_lane = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of_lane = _mm256_set1_epi64x((long long)0x8040201008040201u), one = _mm256_set1_epi8(1);
    int i;
    for (i = 0; i < 2; i++) {
        __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(bits >> (32 * i))), byte_of_lane);
        v = _mm256_min_epu8(_mm256_and_si256(v, bit_of_lane), one);
        _mm256_storeu_si256((__m256i *)(to + 32 * i), v);
    }
}

AVX2 static void emit_bytes_avx2(const Band *band, u32 label)
{
    (void)label;
    EMIT_BYTES(expand_avx2);
}

AVX512 static inline void expand_avx512(u8 *to, u64 bits) { _mm512_storeu_si512(to, _mm512_maskz_set1_epi8(bits, 1)); }

AVX512 static void emit_bytes_avx512(const Band *band, u32 label)
{
    (void)label;
    EMIT_BYTES(expand_avx512);
}

AVX512 static void emit_labels8_avx512(const Band *band, u32 label)
{
    const __m512i v = _mm512_set1_epi8((char)label);
    EMIT_ROWS(64, _mm512_mask_storeu_epi8(to, pixels, v), {
        (void)room;
        _mm512_mask_storeu_epi8(to, pixels, v);
    });
}

AVX512 static inline __m512i reverse_bits_avx512(__m512i bytes)
{
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i turned =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15));
    const __m512i left = _mm512_shuffle_epi8(turned, _mm512_and_si512(bytes, low));
    const __m512i right = _mm512_shuffle_epi8(turned, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low));
    return _mm512_or_si512(_mm512_slli_epi16(left, 4), right);
}

/* Lines of the cache that nobody is about to read are written whole, past the cache, which spares reading them first.
 * Of a line that is not the row's alone only some bytes are written. `shift` is where in its first line a row begins. */
#define EMIT_LINES(WHOLE, PART)                                                                             \
    do {                                                                                                    \
        const i64 low = band->low * band->word_bytes, to_stride = band->to_stride;                          \
        const i64 high = band->high < band->words ? band->high * band->word_bytes : band->row_bytes;        \
        const u64 *row = band->row;                                                                         \
        const int alone = band->alone;                                                                      \
        u8 *out = band->to, *const stop = out + band->count * to_stride;                                    \
        for (; out != stop; row += band->pitch, out += to_stride) {                                         \
            const u8 *const first = alone ? band->plane : out;                                              \
            const u8 *const last = (alone ? band->plane_end : out + band->row_bytes) - 64;                  \
            const int shift = (int)((uintptr_t)out & 63);                                                   \
            i64 k = (low + shift) & ~(i64)63;                                                               \
            u8 *to = out - shift + k;                                                                       \
            for (; k < high + shift; k += 64, to += 64) {                                                   \
                if (LIKELY(to >= first && to <= last)) {                                                    \
                    WHOLE;                                                                                  \
                } else {                                                                                    \
                    PART;                                                                                   \
                }                                                                                           \
            }                                                                                               \
        }                                                                                                   \
    } while (0)

#define SHIFTED_PIXELS (row[k >> 6] << shift | row[(k >> 6) - 1] >> 1 >> (63 - shift))

AVX512 static void stream_bytes_avx512(const Band *band, u32 label)
{
    const __m512i ones = _mm512_set1_epi8(1);
    (void)label;
    EMIT_LINES(_mm512_stream_si512((void *)to, _mm512_maskz_mov_epi8(SHIFTED_PIXELS, ones)),
               _mm512_mask_storeu_epi8(to, SHIFTED_PIXELS, ones));
}

#define STREAM_BITS(ORDER)                                                             \
    EMIT_LINES(                                                                        \
        {                                                                              \
            const __m512i bits = _mm512_loadu_si512((const u8 *)row + k - shift);      \
            _mm512_stream_si512((void *)to, ORDER);                                    \
        },                                                                             \
        {                                                                              \
            const __m512i bits = _mm512_loadu_si512((const u8 *)row + k - shift);      \
            _mm512_mask_storeu_epi8(to, _mm512_test_epi8_mask(bits, bits), ORDER);     \
        })

AVX512 static void stream_bits_avx512(const Band *band, u32 little)
{
    if (little)
        STREAM_BITS(bits);
    else
        STREAM_BITS(reverse_bits_avx512(bits));
}

/* Bytes [low, high) of a row. */
ALWAYS_INLINE u64 mask_of_part(i64 k, i64 low, i64 high)
{
    u64 part = ~(u64)0;
    if (k < low) part &= ~(u64)0 << (low - k);
    if (high - k < 64) part &= ~(u64)0 >> (64 - (high - k));
    return part;
}

#define EMIT_ZEROS(ZERO)                                                                            \
    EMIT_LINES(ZERO, _mm512_mask_storeu_epi8(to, mask_of_part(k - shift, low, high), _mm512_setzero_si512()))

AVX512 static void stream_zeros_avx512(const Band *band, u32 label)
{
    (void)label;
    EMIT_ZEROS(_mm512_stream_si512((void *)to, _mm512_setzero_si512()));
}

__attribute__((target("avx512bw,clzero"))) static void stream_zeros_clzero(const Band *band, u32 label)
{
    (void)label;
    EMIT_ZEROS(_mm_clzero(to));
}
#endif

static Emitter *choose_bytes(int stream)
{
#if X86_TARGETS
    if (simd_level >= 2) return stream ? stream_bytes_avx512 : emit_bytes_avx512;
    if (simd_level >= 1) return emit_bytes_avx2;
#endif
    (void)stream;
    return emit_bytes_portable;
}

static Emitter *choose_bits(int stream)
{
#if X86_TARGETS
    if (simd_level >= 2 && stream) return stream_bits_avx512;
#endif
    (void)stream;
    return emit_bits_portable;
}

static Emitter *choose_zeros(int stream)
{
#if X86_TARGETS
    if (simd_level >= 2 && stream) return has_clzero ? stream_zeros_clzero : stream_zeros_avx512;
#endif
    (void)stream;
    return emit_zeros_portable;
}

/* What was written past the cache is to be seen by other threads. */
static void finish_streams(void)
{
#if X86_TARGETS
    _mm_sfence();
#endif
}

static Emitter *choose_labels(i64 label_bytes)
{
#if X86_TARGETS
    if (simd_level >= 2 && label_bytes == 1) return emit_labels8_avx512;
#endif
    return label_bytes == 1 ? emit_labels8_portable : label_bytes == 2 ? emit_labels16_portable : emit_labels32_portable;
}

/* Rows of a band as they are drawn from: whole vectors, with one of zeros before the first and after each. */
static i64 band_pitch(i64 words) { return ((words + 7) & ~(i64)7) + 8; }

/* XOR the band's rows of flips, the first with `above`, which becomes the last, and find the words that have pixels. */
static void settle_portable(Band *band, const u64 *flips, u64 *rows, u64 *above)
{
    i64 k, y;
    for (k = 0; k < band->words; k++) {
        u64 pixels = above[k], seen = 0;
        for (y = 0; y < band->count; y++) {
            pixels ^= flips[y * band->words + k];
            rows[y * band->pitch + k] = pixels;
            seen |= pixels;
        }
        above[k] = pixels;
        if (!seen) continue;
        band->low = band->high ? band->low : k;
        band->high = k + 1;
    }
    for (y = 0; y < band->count; y++)
        memset(rows + y * band->pitch + band->words, 0, (size_t)(band->pitch - band->words) * 8);
}

#if X86_TARGETS
AVX512 static void settle_avx512(Band *band, const u64 *flips, u64 *rows, u64 *above)
{
    const i64 words = band->words, pitch = band->pitch, count = band->count;
    i64 k, y;
    for (k = 0; k < words; k += 8) {
        const __mmask8 part = (__mmask8)(k + 8 <= words ? 255 : (1 << (words - k)) - 1);
        const u64 *from = flips + k;
        u64 *to = rows + k;
        __m512i pixels = _mm512_loadu_si512(above + k), seen = _mm512_setzero_si512();
        u32 found;
        for (y = 0; y < count; y++, from += words, to += pitch) {
            pixels = _mm512_xor_si512(pixels, _mm512_maskz_loadu_epi64(part, from));
            _mm512_storeu_si512(to, pixels);
            seen = _mm512_or_si512(seen, pixels);
        }
        _mm512_storeu_si512(above + k, pixels);
        found = _mm512_test_epi64_mask(seen, seen);
        if (!found) continue;
        band->low = band->high ? band->low : k + lowest_bit(found);
        band->high = k + 32 - __builtin_clz(found);
    }
    for (y = 0; y < count; y++) _mm512_storeu_si512(rows + y * pitch + pitch - 8, _mm512_setzero_si512());
}
#endif

static void settle(Band *band, const u64 *flips, u64 *rows, u64 *above)
{
    band->low = band->high = 0;
    band->row = rows;
#if X86_TARGETS
    if (simd_level >= 2) {
        settle_avx512(band, flips, rows, above);
        return;
    }
#endif
    settle_portable(band, flips, rows, above);
}

static void prefetch_band(const Band *band)
{
    const i64 begin = band->low * band->word_bytes, end = band->high * band->word_bytes;
    u8 *out = band->to;
    i64 y, k;
    for (y = 0; y < band->count; y++, out += band->to_stride)
        for (k = begin; k < end; k += 64) PREFETCH_WRITE(out + k);
}

/* What a call wrote to a plane, for the next one to clear: the box in bytes of a row and rows; then, for each band of
 * it, which words, or 0 for all of the box's. */
enum { NOTED_BOX = 4 };
static i64 note_size(i64 height) { return NOTED_BOX + (height + BAND_ROWS - 1) / BAND_ROWS; }
static i64 note_band(const Band *band) { return band->low | (i64)(band->high + !band->high) << 32; }

/* Where masks go: `height` rows of `row_bytes`, in which 64 pixels are `word_bytes`. */
typedef struct {
    u8 *begin;
    i64 height, row_bytes, word_bytes;
    int stream; /* past the cache */
} Plane;

/* A sweep down a box, a band at a time. */
typedef struct {
    Band next;
    const u64 *flips; /* NULL: the bands are noted ones */
    u64 *rows, *other_rows, *above;
    i64 *notes;
    int stream;
} Sweep;

/* `box` is in bytes of the plane's rows. */
static Sweep make_sweep(const Plane *plane, const Box *box, i64 *notes)
{
    Sweep sweep;
    Band *band = &sweep.next;
    memset(&sweep, 0, sizeof sweep);
    sweep.notes = notes;
    band->to = plane->begin + box->y0 * plane->row_bytes + box->x0;
    band->after = box->y1 - box->y0;
    band->to_stride = plane->row_bytes;
    band->row_bytes = box->x1 - box->x0;
    band->word_bytes = plane->word_bytes;
    band->words = (band->row_bytes + plane->word_bytes - 1) / plane->word_bytes;
    band->pitch = band_pitch(band->words);
    band->plane = plane->begin;
    band->plane_end = plane->begin + plane->height * plane->row_bytes;
    band->alone = plane->row_bytes - band->row_bytes >= 64;
    sweep.stream = plane->stream && band->alone;
    return sweep;
}

/* Go on to the next band. The memory it goes to is asked for now, to be there when it is written. */
static void step(Sweep *sweep)
{
    Band *band = &sweep->next;
    band->to += band->count * band->to_stride;
    band->count = band->after < BAND_ROWS ? band->after : BAND_ROWS;
    band->after -= band->count;
    if (!band->count) return;
    if (sweep->flips) {
        u64 *rows = sweep->rows;
        settle(band, sweep->flips, rows, sweep->above);
        sweep->flips += band->count * band->words;
        sweep->rows = sweep->other_rows;
        sweep->other_rows = rows;
        if (sweep->notes) *sweep->notes++ = note_band(band);
    } else {
        const i64 noted = *sweep->notes++;
        band->low = noted & 0xffff;
        band->high = noted ? noted >> 32 : band->words;
    }
    if (!sweep->stream) prefetch_band(band);
}

static void sweep_bands(Sweep *sweep, Emitter *emit, u32 label)
{
    step(sweep);
    while (sweep->next.count) {
        const Band band = sweep->next;
        step(sweep);
        emit(&band, label);
    }
}

/* ------------------------------------------------------------------ decoding all masks of a call */

/* Zero what a plane's notes say was written, and its box in them. */
static void clear_plane(const Plane *plane, i64 *notes)
{
    Box box;
    Sweep sweep;
    memcpy(&box, notes, sizeof box);
    sweep = make_sweep(plane, &box, notes + NOTED_BOX);
    sweep_bands(&sweep, choose_zeros(plane->stream), 0);
    memset(notes, 0, sizeof box);
}

/* Draw the grid's flips into a box, in bytes of the plane's rows, and note it. Flips are zero again afterwards. */
static int draw(const Plane *plane, const Grid *grid, Box box, Scratch *scratch, i64 *notes, Emitter *emit, u32 label)
{
    u64 *flips = scratch->flips + grid->box.y0 * grid->stride;
    const i64 pitch = band_pitch(grid->stride);
    const int ready = reserve(&scratch->rows, &scratch->rows_size, (size_t)(8 + 2 * BAND_ROWS * pitch + 8), 8, 1) &&
                      reserve(&scratch->above, &scratch->above_size, (size_t)pitch, 8, 0);
    if (ready) {
        Sweep sweep = make_sweep(plane, &box, notes ? notes + NOTED_BOX : NULL);
        sweep.flips = flips;
        sweep.rows = scratch->rows + 8;
        sweep.other_rows = sweep.rows + BAND_ROWS * pitch + 8;
        memset(sweep.other_rows - 8, 0, 64);
        sweep.above = memset(scratch->above, 0, (size_t)pitch * 8);
        sweep_bands(&sweep, emit, label);
        if (notes) memcpy(notes, &box, sizeof box);
    }
    memset(flips, 0, (size_t)((grid->box.y1 - grid->box.y0 + 1) * grid->stride) * 8);
    return ready ? GOOD : NO_MEMORY;
}

/* `notes`, if not NULL, says what is to be cleared in each plane first, and then what was written; without it planes
 * are zeroed, or all of each is cleared where they are `dirty`. */
static void decode_planes(const Job *job, i64 height, i64 width, u8 *out, i64 *notes, int dirty)
{
    Plane plane = {NULL, height, width, 64, notes && simd_level >= 2};
    Emitter *emit = choose_bytes(plane.stream);
    Scratch scratch = {0};
    Grid grid;
    i64 i;
    while ((i = take_mask(job)) < job->num_masks) {
        i64 *noted = notes ? notes + i * note_size(height) : NULL;
        plane.begin = out + i * height * width;
        if (notes) clear_plane(&plane, noted);
        if (dirty) memset(plane.begin, 0, (size_t)(height * width));
        job->status[i] = (u8)flip_mask(job, i, height, width, 1, &scratch, &grid);
        if (job->status[i] == GOOD && grid.box.x0 < grid.box.x1)
            job->status[i] = (u8)draw(&plane, &grid, grid.box, &scratch, noted, emit, 0);
    }
    release(&scratch);
    finish_streams();
}

static void decode_bits(const Job *job, i64 height, i64 width, u8 *out, i64 *notes, int little)
{
    Plane plane = {NULL, height, (width + 7) / 8, 8, notes && simd_level >= 2};
    Emitter *emit = choose_bits(plane.stream);
    Scratch scratch = {0};
    Grid grid;
    i64 i;
    while ((i = take_mask(job)) < job->num_masks) {
        i64 *noted = notes ? notes + i * note_size(height) : NULL;
        Box box;
        plane.begin = out + i * height * plane.row_bytes;
        if (notes) clear_plane(&plane, noted);
        job->status[i] = (u8)flip_mask(job, i, height, width, 8, &scratch, &grid);
        if (job->status[i] != GOOD || grid.box.x0 == grid.box.x1) continue;
        box = grid.box;
        box.x0 /= 8;
        box.x1 = (box.x1 + 7) / 8;
        job->status[i] = (u8)draw(&plane, &grid, box, &scratch, noted, emit, (u32)little);
    }
    release(&scratch);
    finish_streams();
}

static void decode_labels(const Job *job, const i64 *order, i64 num_painted, i64 height, i64 width, u8 *out,
                          i64 label_bytes)
{
    const Plane plane = {out, height, width * label_bytes, 64 * label_bytes, 0};
    Emitter *emit = choose_labels(label_bytes);
    Scratch scratch = {0};
    Grid grid;
    i64 j;
    for (j = 0; j < num_painted; j++) {
        const i64 i = order[j];
        Box box;
        job->status[i] = (u8)flip_mask(job, i, height, width, 1, &scratch, &grid);
        if (job->status[i] != GOOD || grid.box.x0 == grid.box.x1) continue;
        box = grid.box;
        box.x0 *= label_bytes;
        box.x1 *= label_bytes;
        job->status[i] = (u8)draw(&plane, &grid, box, &scratch, NULL, emit, (u32)i + 1);
    }
    release(&scratch);
}

/* `out` is zeroed and `crop_offsets` has room for every mask's own box; a mask whose box is of another size is not
 * written. */
static void decode_crops(const Job *job, u8 *out, const i64 *crop_offsets)
{
    Emitter *emit = choose_bytes(0);
    Scratch scratch = {0};
    Grid grid;
    i64 i;
    while ((i = take_mask(job)) < job->num_masks) {
        const Box *box = &grid.box;
        job->status[i] = (u8)flip_mask(job, i, job->sizes[2 * i], job->sizes[2 * i + 1], 1, &scratch, &grid);
        if (job->status[i] != GOOD || box->x0 == box->x1) continue;
        if ((box->x1 - box->x0) * (box->y1 - box->y0) == crop_offsets[i + 1] - crop_offsets[i]) {
            const Plane plane = {out + crop_offsets[i], box->y1 - box->y0, box->x1 - box->x0, 64, 0};
            const Box whole = {0, 0, plane.row_bytes, plane.height};
            job->status[i] = (u8)draw(&plane, &grid, whole, &scratch, NULL, emit, 0);
        } else {
            memset(scratch.flips, 0, scratch.flips_size * 8);
        }
    }
    release(&scratch);
}

/* ------------------------------------------------------------------ area average */

/* For each source index up to `source`: its lower edge on the target, as a pixel and a rest in 1 / `source` of one. */
static int fill_edges(u32 **lookup, size_t *size, i64 source, i64 target)
{
    i64 from;
    if (!reserve(lookup, size, 2 * ((size_t)source + 1), sizeof(u32), 0)) return 0;
    for (from = 0; from <= source; from++) {
        (*lookup)[2 * from] = (u32)(from * target / source);
        (*lookup)[2 * from + 1] = (u32)(from * target % source);
    }
    return 1;
}

typedef struct {
    u32 *steps; /* change of coverage from the row above, in 1 / (height * width) of a target pixel; zero between masks */
    size_t size;
    i64 x0, stride;
} Steps;

/* Rows [row, stop) of a source column cover a part of the target. */
static void add_piece(Steps *to, const Scratch *edges, i64 height, i64 width, i64 column, i64 row, i64 stop)
{
    const u32 *x = edges->first_column + 2 * column, *y = edges->first_row;
    u32 at = x[0], used = x[1];
    for (; at < x[2] || (at == x[2] && used < x[3]); at++, used = 0) {
        const u32 weight = (at == x[2] ? x[3] : (u32)width) - used;
        u32 *cell = to->steps + y[2 * row] * to->stride + (at - to->x0);
        cell[0] += weight * ((u32)height - y[2 * row + 1]);
        cell[to->stride] += weight * y[2 * row + 1];
        if (stop == height) continue;
        cell = to->steps + y[2 * stop] * to->stride + (at - to->x0);
        cell[0] -= weight * ((u32)height - y[2 * stop + 1]);
        cell[to->stride] -= weight * y[2 * stop + 1];
    }
}

/* Sum the steps up, row by row, into pixels; they are zero again afterwards. */
static void emit_average(Steps *from, u32 *covered, const Box *box, i64 pixels, void *out, i64 out_stride, int as_float)
{
    const double part = 1.0 / (double)pixels, twice = 510.0 / (double)pixels;
    const i64 count = box->x1 - box->x0;
    u32 *row = from->steps + box->y0 * from->stride;
    i64 y, k;
    memset(covered, 0, (size_t)count * sizeof(u32));
    for (y = box->y0; y < box->y1; y++, row += from->stride) {
        const i64 at = y * out_stride + box->x0;
        for (k = 0; k < count; k++) covered[k] += row[k];
        memset(row, 0, (size_t)count * sizeof(u32));
        /* Rounded so that a fused multiply-add could not change the result. */
        if (as_float)
            for (k = 0; k < count; k++) ((float *)out)[at + k] = (float)((double)(int32_t)covered[k] * part);
        else
            for (k = 0; k < count; k++) ((u8 *)out)[at + k] = (u8)(((int32_t)((int32_t)covered[k] * twice) + 1) >> 1);
    }
    memset(row, 0, (size_t)from->stride * 2 * sizeof(u32));
}

static int average_mask(const Job *job, i64 index, i64 target_height, i64 target_width, Scratch *scratch, Steps *steps,
                        Box *box)
{
    const i64 height = job->sizes[2 * index], width = job->sizes[2 * index + 1];
    const Divider by = make_divider(height);
    i64 num_runs, i;
    int status = parse_mask(job, index, scratch, &num_runs);
    if (status != GOOD) return status;
    if (!measure(scratch->ends, num_runs, height, box)) return GOOD;
    if (scratch->source_height != height || scratch->source_width != width) {
        scratch->source_height = 0;
        if (!fill_edges(&scratch->first_row, &scratch->row_size, height, target_height) ||
            !fill_edges(&scratch->first_column, &scratch->column_size, width, target_width))
            return NO_MEMORY;
        scratch->source_height = height;
        scratch->source_width = width;
    }
    box->x0 = box->x0 * target_width / width;
    box->x1 = (box->x1 * target_width + width - 1) / width;
    box->y0 = box->y0 * target_height / height;
    box->y1 = (box->y1 * target_height + height - 1) / height;
    steps->x0 = box->x0;
    steps->stride = box->x1 - box->x0;
    if (!reserve(&steps->steps, &steps->size, (size_t)((target_height + 2) * steps->stride), sizeof(u32), 1) ||
        !reserve(&scratch->above, &scratch->above_size, (size_t)steps->stride, 8, 0))
        return NO_MEMORY;
    for (i = 1; i < num_runs; i += 2) {
        i64 column = divide(scratch->ends[i - 1], by), row = scratch->ends[i - 1] - column * height;
        i64 left = (i64)scratch->ends[i] - scratch->ends[i - 1];
        for (; left > 0; left -= height - row, row = 0, column++)
            add_piece(steps, scratch, height, width, column, row, row + left < height ? row + left : height);
    }
    return GOOD;
}

static void decode_average(const Job *job, i64 height, i64 width, void *out, int as_float)
{
    Scratch scratch = {0};
    Steps steps = {0};
    i64 i;
    while ((i = take_mask(job)) < job->num_masks) {
        const i64 pixels = job->sizes[2 * i] * job->sizes[2 * i + 1];
        u8 *plane = (u8 *)out + i * height * width * (as_float ? (i64)sizeof(float) : 1);
        Box box = {0, 0, 0, 0};
        job->status[i] = (u8)average_mask(job, i, height, width, &scratch, &steps, &box);
        if (job->status[i] != GOOD || box.x0 == box.x1) continue;
        emit_average(&steps, (u32 *)(void *)scratch.above, &box, pixels, plane, width, as_float);
    }
    free(steps.steps);
    release(&scratch);
}

/* ------------------------------------------------------------------ measuring */

static void measure_masks(const Job *job, i64 *areas, i64 *boxes)
{
    Scratch scratch = {0};
    Box box;
    i64 i, num_runs;
    while ((i = take_mask(job)) < job->num_masks) {
        job->status[i] = (u8)parse_mask(job, i, &scratch, &num_runs);
        if (job->status[i] != GOOD) continue;
        areas[i] = measure(scratch.ends, num_runs, job->sizes[2 * i], &box);
        memcpy(boxes + 4 * i, &box, sizeof box);
    }
    release(&scratch);
}

/* Ends of the runs of all masks; `ends` has room for one per character, and ENDS_SPARE more. */
static void parse_masks(const Job *job, u32 *ends, i64 *first_run)
{
    i64 i, num_runs;
    first_run[0] = 0;
    for (i = 0; i < job->num_masks; i++) {
        const i64 begin = job->offsets[i], total = job->sizes[2 * i] * job->sizes[2 * i + 1];
        job->status[i] = (u8)parse(job->text + begin, job->offsets[i + 1] - begin, total, ends + first_run[i], &num_runs);
        if (job->status[i] != GOOD) return;
        first_run[i + 1] = first_run[i] + num_runs;
    }
}

/* Number of runs that end at or before a position: odd inside of the foreground. */
static i64 runs_before(const u32 *ends, i64 num_runs, u32 position)
{
    i64 low = 0, high = num_runs;
    while (low < high) {
        i64 middle = (low + high) / 2;
        if (ends[middle] <= position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void find_points(const Job *job, const i64 *points, i64 num_points, u8 *inside)
{
    Scratch scratch = {0};
    i64 i, j, num_runs;
    while ((i = take_mask(job)) < job->num_masks) {
        const i64 height = job->sizes[2 * i], width = job->sizes[2 * i + 1];
        job->status[i] = (u8)parse_mask(job, i, &scratch, &num_runs);
        if (job->status[i] != GOOD) continue;
        for (j = 0; j < num_points; j++) {
            const i64 x = points[2 * j], y = points[2 * j + 1];
            if (x < 0 || x >= width || y < 0 || y >= height) continue;
            inside[i * num_points + j] = runs_before(scratch.ends, num_runs, (u32)(x * height + y)) & 1;
        }
    }
    release(&scratch);
}

/* ------------------------------------------------------------------ intersections */

/* A list of masks, parsed. An edge is where a run ends, column in the upper half, row in the lower: they sort as
 * positions do. */
typedef struct {
    u32 *edges;
    i64 *first_run;
    Box *boxes;
} Parsed;

static int parse_list(const Job *job, Parsed *parsed, i64 *areas)
{
    const size_t n = (size_t)job->num_masks;
    const size_t characters = (size_t)(job->offsets[n] - job->offsets[0]);
    i64 i, j;
    parsed->edges = malloc((characters + ENDS_SPARE) * sizeof(u32));
    parsed->first_run = malloc((n + 1) * sizeof(i64));
    parsed->boxes = malloc((n + 1) * sizeof(Box));
    if (!parsed->edges || !parsed->first_run || !parsed->boxes) return NO_MEMORY;
    parse_masks(job, parsed->edges, parsed->first_run);
    for (i = 0; i < job->num_masks; i++) {
        u32 *ends = parsed->edges + parsed->first_run[i];
        const i64 num_runs = job->status[i] == GOOD ? parsed->first_run[i + 1] - parsed->first_run[i] : 0;
        const i64 height = job->sizes[2 * i];
        const Divider by = make_divider(height);
        if (job->status[i] != GOOD) return job->status[i];
        areas[i] = measure(ends, num_runs, height, parsed->boxes + i);
        for (j = 0; j < num_runs; j++) {
            const i64 column = divide(ends[j], by);
            ends[j] = (u32)(column << 16 | (ends[j] - column * height));
        }
    }
    return GOOD;
}

static void release_list(Parsed *parsed)
{
    free(parsed->edges);
    free(parsed->first_run);
    free(parsed->boxes);
}

/* The pixels of a mask's box as column-major bits, with the foreground counted before each word: one look gives the
 * area before any place. */
typedef struct {
    u64 bits;
    u64 before;
} Rank;

/* Which bit of the box comes first at or after an edge, from its left side's top to its right side's. */
ALWAYS_INLINE i64 place_in_box(u32 edge, const Box *box)
{
    const i64 height = box->y1 - box->y0;
    i64 row = (i64)(edge & 0xffff) - box->y0;
    row = row < 0 ? 0 : row;
    row = row > height ? height : row;
    return ((i64)(edge >> 16) - box->x0) * height + row;
}

#define RANKS(TARGET, SUFFIX, COUNT)                                                                                    \
    TARGET static void fill_ranks##SUFFIX(Rank *ranks, i64 num_words, const Box *box, const u32 *edges, i64 num_runs) \
    {                                                                                                           \
        u64 before = 0;                                                                                         \
        i64 i;                                                                                                  \
        memset(ranks, 0, (size_t)num_words * sizeof *ranks);                                                    \
        for (i = 1; i < num_runs; i += 2) {                                                                     \
            i64 at, stop;                                                                                       \
            if (edges[i - 1] == edges[i]) continue; /* it may lie outside of the box */                         \
            at = place_in_box(edges[i - 1], box);                                                               \
            stop = place_in_box(edges[i], box);                                                                 \
            for (; (at >> 6) < (stop >> 6); at = (at | 63) + 1) ranks[at >> 6].bits |= ~(u64)0 << (at & 63);    \
            ranks[at >> 6].bits |= (((u64)1 << (stop - at)) - 1) << (at & 63);                                  \
        }                                                                                                       \
        for (i = 0; i < num_words; i++) {                                                                       \
            ranks[i].before = before;                                                                           \
            before += (u64)COUNT(ranks[i].bits);                                                                \
        }                                                                                                       \
    }                                                                                                           \
    TARGET static i64 shared_area##SUFFIX(const Rank *ranks, const Box *box, const u32 *edges, i64 num_runs)           \
    {                                                                                                           \
        const u32 left = (u32)box->x0 << 16, right = (u32)box->x1 << 16;                                        \
        i64 shared = 0, i = runs_before(edges, num_runs, left) | 1;                                             \
        for (; i < num_runs && edges[i - 1] < right; i += 2) {                                                  \
            const i64 start = place_in_box(edges[i - 1] < left ? left : edges[i - 1], box);                     \
            const i64 stop = place_in_box(edges[i] > right ? right : edges[i], box);                            \
            const Rank *first = ranks + (start >> 6), *last = ranks + (stop >> 6);                              \
            shared += (i64)(last->before - first->before);                                                      \
            shared += COUNT(last->bits & (((u64)1 << (stop & 63)) - 1));                                        \
            shared -= COUNT(first->bits & (((u64)1 << (start & 63)) - 1));                                      \
        }                                                                                                       \
        return shared;                                                                                          \
    }
RANKS(, _portable, count_bits)
#if X86_TARGETS
RANKS(__attribute__((target("popcnt,bmi,bmi2"))), _popcnt, (i64)__builtin_popcountll)
#define CHOOSE_RANKS(NAME) (simd_level >= 1 ? NAME##_popcnt : NAME##_portable)
#else
#define CHOOSE_RANKS(NAME) NAME##_portable
#endif

/* A list compared with itself is compared half. */
static int intersect_lists(const Parsed *a, i64 n, const Parsed *b, i64 m, i64 *shared)
{
    Rank *ranks = NULL;
    size_t size = 0;
    i64 i, j;
    for (i = 0; i < n; i++) {
        const Box *box = a->boxes + i;
        const i64 num_words = (box->x1 - box->x0) * (box->y1 - box->y0) / 64 + 1;
        if (box->x0 == box->x1) continue;
        if (!reserve(&ranks, &size, (size_t)num_words, sizeof *ranks, 0)) return NO_MEMORY;
        CHOOSE_RANKS(fill_ranks)(ranks, num_words, box, a->edges + a->first_run[i], a->first_run[i + 1] - a->first_run[i]);
        for (j = a == b ? i : 0; j < m; j++) {
            const Box *other = b->boxes + j;
            if (other->x0 >= box->x1 || box->x0 >= other->x1 || other->y0 >= box->y1 || box->y0 >= other->y1) continue;
            shared[i * m + j] = CHOOSE_RANKS(shared_area)(ranks, box, b->edges + b->first_run[j],
                                                          b->first_run[j + 1] - b->first_run[j]);
            if (a == b) shared[j * m + i] = shared[i * m + j];
        }
    }
    free(ranks);
    return GOOD;
}

/* Areas and shared pixels of two lists; `second` is NULL for one list with itself. */
static int intersect(const Job *first, const Job *second, i64 *first_areas, i64 *second_areas, i64 *shared)
{
    Parsed a = {0}, b = {0};
    int status = parse_list(first, &a, first_areas);
    if (status == GOOD && second) status = parse_list(second, &b, second_areas);
    if (status == GOOD)
        status = intersect_lists(&a, first->num_masks, second ? &b : &a, (second ? second : first)->num_masks, shared);
    release_list(&a);
    release_list(&b);
    return status;
}

/* ------------------------------------------------------------------ encoding */

/* Flips of a dense mask in row order, and how many each column has. */
typedef struct {
    u32 *flips; /* column in the upper half, row in the lower */
    size_t size, count;
    u32 *of_column;
} Found;

ALWAYS_INLINE u64 read_pixels_portable(const u8 *row, i64 count)
{
    u64 bits = 0;
    i64 i;
    for (i = 0; i + 8 <= count; i += 8) {
        u64 word = load_le64(row + i);
        word = (((word & 0x7f7f7f7f7f7f7f7fu) + 0x7f7f7f7f7f7f7f7fu) | word) >> 7;
        bits |= gather_bytes(word & 0x0101010101010101u) << i;
    }
    for (; i < count; i++) bits |= (u64)(row[i] != 0) << i;
    return bits;
}

static int note_flips(Found *found, u64 flips, i64 column, i64 row)
{
    if (found->count + 64 > found->size) {
        size_t size = found->size * 2 + 4096;
        u32 *memory = realloc(found->flips, size * sizeof(u32));
        if (!memory) return 0;
        found->flips = memory;
        found->size = size;
    }
    for (; flips; flips &= flips - 1) {
        const u32 at = (u32)(column + lowest_bit(flips));
        found->of_column[at]++;
        found->flips[found->count++] = at << 16 | (u32)row;
    }
    return 1;
}

#define FIND_FLIPS(NAME, READ)                                                          \
    static int NAME(const u8 *mask, i64 height, i64 width, u64 *above, Found *found)    \
    {                                                                                   \
        i64 y, x;                                                                       \
        for (y = 0; y <= height; y++, mask += width)                                    \
            for (x = 0; x < width; x += 64) {                                           \
                const i64 count = width - x < 64 ? width - x : 64;                      \
                const u64 pixels = y < height ? READ(mask + x, count) : 0;              \
                const u64 flips = pixels ^ above[x >> 6];                               \
                above[x >> 6] = pixels;                                                 \
                if (flips && !note_flips(found, flips, x, y)) return 0;                 \
            }                                                                           \
        return 1;                                                                       \
    }
FIND_FLIPS(find_flips_portable, read_pixels_portable)
#if X86_TARGETS
AVX2 static inline u64 read_pixels_avx2(const u8 *row, i64 count)
{
    const __m256i zero = _mm256_setzero_si256();
    u32 low, high;
    if (count < 64) return read_pixels_portable(row, count);
    low = (u32)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)row), zero));
    high = (u32)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(row + 32)), zero));
    return ~((u64)high << 32 | low);
}
AVX2 FIND_FLIPS(find_flips_avx2, read_pixels_avx2)
#endif

static u8 *write_number(u8 *to, i64 value)
{
    for (;;) {
        const u8 group = value & 31;
        value >>= 5;
        if (value == ((group & 16) ? -1 : 0)) {
            *to++ = (u8)(group + 48);
            return to;
        }
        *to++ = (u8)((group | 32) + 48);
    }
}

/* Flips, sorted by column, to the string; rows of one column are in order already. */
static i64 write_runs(const u32 *rows, const u32 *of_column, i64 height, i64 width, u8 *text)
{
    u8 *to = text;
    i64 column, position = 0, open = -1, before = 0, last = 0, num_runs = 0;
#define WRITE_RUN(END)                                                   \
    do {                                                                 \
        const i64 run = (END)-position;                                  \
        to = write_number(to, num_runs > 2 ? run - before : run);        \
        before = last;                                                   \
        last = run;                                                      \
        position = (END);                                                \
        num_runs++;                                                      \
    } while (0)
    for (column = 0; column < width; column++) {
        u32 left = of_column[column];
        for (; left; left -= 2, rows += 2) {
            const i64 start = column * height + rows[0], stop = column * height + rows[1];
            if (start != open) {
                if (open >= 0) WRITE_RUN(open);
                WRITE_RUN(start);
            }
            open = stop;
        }
    }
    if (open >= 0) WRITE_RUN(open);
    if (position != height * width) WRITE_RUN(height * width);
#undef WRITE_RUN
    return to - text;
}

/* One dense mask, any byte but 0 is foreground, to its string, which the caller frees. */
static int encode_mask(const u8 *mask, i64 height, i64 width, u8 **text, i64 *length)
{
    Found found = {0};
    u32 *rows = NULL, *next = NULL;
    u64 *above = calloc((size_t)width / 64 + 1, 8);
    size_t i;
    i64 column;
    u32 begin = 0;
    int ok;
    *text = NULL;
    found.of_column = calloc((size_t)width + 1, sizeof(u32));
    ok = above && found.of_column;
#if X86_TARGETS
    ok = ok && (simd_level >= 1 ? find_flips_avx2 : find_flips_portable)(mask, height, width, above, &found);
#else
    ok = ok && find_flips_portable(mask, height, width, above, &found);
#endif
    rows = ok ? malloc((found.count + 1) * sizeof(u32)) : NULL;
    next = ok ? malloc(((size_t)width + 1) * sizeof(u32)) : NULL;
    *text = ok ? malloc((found.count + 2) * (MAX_DIGITS + 1)) : NULL;
    ok = rows && next && *text;
    if (ok) {
        for (column = 0; column < width; column++) {
            next[column] = begin;
            begin += found.of_column[column];
        }
        for (i = 0; i < found.count; i++) rows[next[found.flips[i] >> 16]++] = found.flips[i] & 0xffff;
        *length = write_runs(rows, found.of_column, height, width, *text);
    }
    free(above);
    free(found.of_column);
    free(found.flips);
    free(rows);
    free(next);
    return ok ? GOOD : NO_MEMORY;
}

/* ------------------------------------------------------------------ the Python module */

static void choose_simd(int limit)
{
    simd_level = 0;
#if X86_TARGETS
    u32 eax, ebx = 0, ecx, edx;
    __builtin_cpu_init();
    has_clzero = __get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) && (ebx & 1);
    if (limit >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt"))
        simd_level = 1;
    if (limit >= 2 && simd_level == 1 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        simd_level = 2;
    if (limit >= 3 && simd_level == 2 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2"))
        simd_level = 3;
#else
    (void)limit;
#endif
}

#ifndef RLE_WITHOUT_PYTHON

#define AT(type, address) ((type *)(intptr_t)(address))

/* Every function takes text, offsets, sizes, number of masks, status, next first. */
typedef struct {
    long long text, offsets, sizes, num_masks, status, next;
} RawJob;
#define JOB_FORMAT "LLLLLL"
#define JOB_FIELDS(raw) &(raw).text, &(raw).offsets, &(raw).sizes, &(raw).num_masks, &(raw).status, &(raw).next

static Job make_job(const RawJob *raw)
{
    Job job;
    job.text = AT(const u8, raw->text);
    job.offsets = AT(const i64, raw->offsets);
    job.sizes = AT(const i64, raw->sizes);
    job.num_masks = raw->num_masks;
    job.status = AT(u8, raw->status);
    job.next = AT(i64, raw->next);
    return job;
}

#define WITHOUT_GIL(STATEMENT) \
    do {                       \
        Py_BEGIN_ALLOW_THREADS STATEMENT; \
        Py_END_ALLOW_THREADS   \
    } while (0)

static PyObject *py_measure(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long areas, boxes;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LL", JOB_FIELDS(raw), &areas, &boxes)) return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(measure_masks(&job, AT(i64, areas), AT(i64, boxes)));
    Py_RETURN_NONE;
}

static PyObject *py_parse(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long ends, first_run;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LL", JOB_FIELDS(raw), &ends, &first_run)) return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(parse_masks(&job, AT(u32, ends), AT(i64, first_run)));
    Py_RETURN_NONE;
}

static PyObject *py_planes(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long height, width, out, notes;
    int dirty;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LLLLp", JOB_FIELDS(raw), &height, &width, &out, &notes, &dirty))
        return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(decode_planes(&job, height, width, AT(u8, out), AT(i64, notes), dirty));
    Py_RETURN_NONE;
}

static PyObject *py_bits(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long height, width, out, notes;
    int little;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LLLLp", JOB_FIELDS(raw), &height, &width, &out, &notes, &little))
        return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(decode_bits(&job, height, width, AT(u8, out), AT(i64, notes), little));
    Py_RETURN_NONE;
}

static PyObject *py_labels(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long order, num_painted, height, width, out, label_bytes;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LLLLLL", JOB_FIELDS(raw), &order, &num_painted, &height, &width, &out,
                          &label_bytes))
        return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(decode_labels(&job, AT(const i64, order), num_painted, height, width, AT(u8, out), label_bytes));
    Py_RETURN_NONE;
}

static PyObject *py_crops(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long out, offsets;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LL", JOB_FIELDS(raw), &out, &offsets)) return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(decode_crops(&job, AT(u8, out), AT(const i64, offsets)));
    Py_RETURN_NONE;
}

static PyObject *py_average(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long height, width, out;
    int as_float;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LLLp", JOB_FIELDS(raw), &height, &width, &out, &as_float)) return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(decode_average(&job, height, width, AT(void, out), as_float));
    Py_RETURN_NONE;
}

static PyObject *py_points(PyObject *self, PyObject *args)
{
    RawJob raw;
    long long points, num_points, inside;
    Job job;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT "LLL", JOB_FIELDS(raw), &points, &num_points, &inside)) return NULL;
    job = make_job(&raw);
    WITHOUT_GIL(find_points(&job, AT(const i64, points), num_points, AT(u8, inside)));
    Py_RETURN_NONE;
}

static PyObject *py_intersect(PyObject *self, PyObject *args)
{
    RawJob raw_first, raw_second;
    long long first_areas, second_areas, shared;
    Job first, second;
    int status;
    (void)self;
    if (!PyArg_ParseTuple(args, JOB_FORMAT JOB_FORMAT "LLL", JOB_FIELDS(raw_first), JOB_FIELDS(raw_second),
                          &first_areas, &second_areas, &shared))
        return NULL;
    first = make_job(&raw_first);
    second = make_job(&raw_second);
    WITHOUT_GIL(status = intersect(&first, raw_second.status ? &second : NULL, AT(i64, first_areas), AT(i64, second_areas), AT(i64, shared)));
    return status == NO_MEMORY ? PyErr_NoMemory() : PyLong_FromLong(status);
}

static PyObject *py_encode(PyObject *self, PyObject *args)
{
    long long mask, height, width;
    PyObject *result;
    u8 *text;
    i64 length = 0;
    int status;
    (void)self;
    if (!PyArg_ParseTuple(args, "LLL", &mask, &height, &width)) return NULL;
    WITHOUT_GIL(status = encode_mask(AT(const u8, mask), height, width, &text, &length));
    result = status == GOOD ? PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)length) : PyErr_NoMemory();
    free(text);
    return result;
}

static PyObject *py_limit_simd(PyObject *self, PyObject *args)
{
    int limit;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &limit)) return NULL;
    choose_simd(limit);
    return PyLong_FromLong(simd_level);
}

static PyMethodDef methods[] = {
    {"measure", py_measure, METH_VARARGS, NULL},
    {"parse", py_parse, METH_VARARGS, NULL},
    {"planes", py_planes, METH_VARARGS, NULL},
    {"bits", py_bits, METH_VARARGS, NULL},
    {"labels", py_labels, METH_VARARGS, NULL},
    {"crops", py_crops, METH_VARARGS, NULL},
    {"average", py_average, METH_VARARGS, NULL},
    {"points", py_points, METH_VARARGS, NULL},
    {"intersect", py_intersect, METH_VARARGS, NULL},
    {"encode", py_encode, METH_VARARGS, NULL},
    {"limit_simd", py_limit_simd, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "sa1b_hf._rle", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__rle(void)
{
    choose_simd(3);
    return PyModule_Create(&module);
}
#endif

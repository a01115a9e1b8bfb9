/* The first two steps of `_rle.c` with AVX-512, 16 runs at a time: string -> ends of runs -> flips.
 *
 * Included by `_rle.c` alone, where its types are. The instructions are those of Ice Lake and Zen 4, and of later ones.
 */
#ifdef RLE_PARSING
#define VBMI __attribute__((target("avx512bw,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,lzcnt,popcnt")))

/* Sums of each lane and all before it, or every other one before it. */
#define SHIFT_LANES(v, lanes) _mm512_alignr_epi32((v), _mm512_setzero_si512(), 16 - (lanes))
VBMI static inline __m512i sum_lanes(__m512i v)
{
    v = _mm512_add_epi32(v, SHIFT_LANES(v, 1));
    v = _mm512_add_epi32(v, SHIFT_LANES(v, 2));
    v = _mm512_add_epi32(v, SHIFT_LANES(v, 4));
    return _mm512_add_epi32(v, SHIFT_LANES(v, 8));
}

VBMI static inline __m512i sum_every_other_lane(__m512i v)
{
    v = _mm512_add_epi32(v, SHIFT_LANES(v, 2));
    v = _mm512_add_epi32(v, SHIFT_LANES(v, 4));
    return _mm512_add_epi32(v, SHIFT_LANES(v, 8));
}

/* What a window of the text says: the low five bits of each character, and of each number, in bytes, where it starts and
 * how far to shift its 20 bits up and down to extend its sign. */
typedef struct {
    __m512i groups, starts, shifts;
} Window;

VBMI static inline Window open_window(__m512i groups, u64 finals)
{
    const __m512i places = _mm512_set_epi64(0x3f3e3d3c3b3a3938, 0x3736353433323130, 0x2f2e2d2c2b2a2928,
                                            0x2726252423222120, 0x1f1e1d1c1b1a1918, 0x1716151413121110,
                                            0x0f0e0d0c0b0a0908, 0x0706050403020100);
    const __m512i starts = _mm512_maskz_compress_epi8(finals << 1 | 1, places);
    const __m512i more = _mm512_sub_epi8(_mm512_maskz_compress_epi8(finals, places), starts);
    const __m512i twice = _mm512_add_epi8(more, more);
    Window window;
    window.groups = _mm512_and_si512(groups, _mm512_set1_epi8(31));
    window.starts = starts;
    window.shifts = _mm512_sub_epi8(_mm512_set1_epi8(32 - 5), _mm512_add_epi8(_mm512_add_epi8(twice, twice), more));
    return window;
}

/* Numbers `at` to `at` + 15 of a window. */
VBMI static inline __m512i read_numbers(const Window *window, i64 at)
{
    const __m512i lanes = _mm512_set_epi64(0x0f0f0f0f0e0e0e0e, 0x0d0d0d0d0c0c0c0c, 0x0b0b0b0b0a0a0a0a,
                                           0x0909090908080808, 0x0707070706060606, 0x0505050504040404,
                                           0x0303030302020202, 0x0101010100000000);
    const __m512i numbers = _mm512_add_epi8(lanes, _mm512_set1_epi8((char)at));
    const __m512i starts = _mm512_permutexvar_epi8(numbers, window->starts);
    const __m512i places = _mm512_add_epi8(starts, _mm512_set1_epi32(0x03020100));
    const __m512i shifts = _mm512_maskz_permutexvar_epi8(0x1111111111111111, numbers, window->shifts);
    __m512i v = _mm512_permutexvar_epi8(places, window->groups);
    v = _mm512_maddubs_epi16(v, _mm512_set1_epi16(1 | 32 << 8));
    v = _mm512_madd_epi16(v, _mm512_set1_epi32(1 | 1024 << 16));
    return _mm512_srav_epi32(_mm512_sllv_epi32(v, shifts), shifts);
}

/* As `parse_portable`; `ends` has room for 16 more. */
VBMI static int parse_vbmi(const u8 *text, i64 length, i64 total, u32 *ends, i64 *num_runs)
{
    const __m512i odd = _mm512_set1_epi64((i64)1 << 32), limit = _mm512_set1_epi32((int)total);
    __m512i last = _mm512_setzero_si512(); /* even lanes the run before the last, odd ones the last */
    __m512i position;
    i64 start, first;
    u32 *end = ends;
    if (read_number(text, length, &first, &start) != GOOD || first < 0 || first > total) return MALFORMED;
    *end++ = (u32)first;
    position = _mm512_set1_epi32((int)first);
    while (start < length) {
        const i64 left = length - start;
        __builtin_prefetch(text + start + 4 * BLOCK);
        const u64 here = left < 64 ? ~(u64)0 >> (64 - left) : ~(u64)0;
        const __m512i groups = _mm512_sub_epi8(_mm512_maskz_loadu_epi8(here, text + start), _mm512_set1_epi8(48));
        u64 finals = _mm512_mask_testn_epi8_mask(here, groups, _mm512_set1_epi8(32));
        u64 longer = here & ~finals; /* characters that begin four of which none ends a number */
        if (_mm512_mask_cmpgt_epu8_mask(here, groups, _mm512_set1_epi8(63))) return MALFORMED;
        longer &= longer >> 1;
        longer &= longer >> 2;
        if (longer) finals &= (longer & (~longer + 1)) - 1;
        if (finals) {
            const Window window = open_window(groups, finals);
            const i64 count = (i64)_mm_popcnt_u64(finals);
            i64 at;
            for (at = 0; at < count; at += 16) {
                const int taken = (int)(count - at < 16 ? count - at : 16);
                const __mmask16 part = (__mmask16)((1 << taken) - 1);
                const __m512i numbers = _mm512_maskz_mov_epi32(part, read_numbers(&window, at));
                const __m512i runs = _mm512_add_epi32(sum_every_other_lane(numbers), last);
                const __m512i stops = _mm512_add_epi32(sum_lanes(_mm512_maskz_mov_epi32(part, runs)), position);
                const __mmask16 over = _mm512_mask_cmpgt_epu32_mask(part, runs, limit);
                if (over | _mm512_mask_cmpgt_epu32_mask(part, stops, limit)) return MALFORMED;
                _mm512_storeu_si512(end, stops);
                end += taken;
                position = _mm512_permutexvar_epi32(_mm512_set1_epi32(15), stops);
                last = _mm512_permutex2var_epi32(
                    last, _mm512_add_epi32(odd, _mm512_set1_epi32(14 + taken)), runs);
            }
            start += 64 - (i64)_lzcnt_u64(finals);
        } else {
            /* A number of more than four characters, or one that is cut off. */
            const u64 two = (u64)_mm_cvtsi128_si64(_mm512_castsi512_si128(last));
            i64 run, used;
            if (read_number(text + start, left, &run, &used) != GOOD) return MALFORMED;
            run += (i64)(two & 0xffffffff);
            first = (i64)(u32)_mm_cvtsi128_si32(_mm512_castsi512_si128(position)) + run;
            if (run < 0 || first > total) return MALFORMED;
            *end++ = (u32)first;
            position = _mm512_set1_epi32((int)first);
            last = _mm512_set1_epi64((i64)(two >> 32 | (u64)run << 32));
            start += used;
        }
    }
    *num_runs = end - ends;
    return (u32)_mm_cvtsi128_si32(_mm512_castsi512_si128(position)) == (u32)total ? GOOD : MALFORMED;
}
#endif /* RLE_PARSING */

#ifdef RLE_FLIPPING
/* Flip where each run starts and stops: a word of the flips, or, with `rows`, a row to be looked up there. Neighbours
 * often flip the same word, so that one would wait for another: the two halves take turns. */
VBMI static inline void flip_pieces(const u32 *starts, const u32 *stops, const u32 *columns, i64 count, u64 *flips,
                                    const u32 *rows, i64 stride)
{
    const i64 half = (count + 1) / 2;
    i64 i;
#define FLIP_PIECE(I)                                                                              \
    do {                                                                                           \
        const i64 word = columns[I] >> 6;                                                          \
        const u64 bit = (u64)1 << (columns[I] & 63);                                               \
        flips[rows ? rows[starts[I]] * stride + word : starts[I]] ^= bit;                          \
        flips[rows ? rows[stops[I]] * stride + word : stops[I]] ^= bit;                            \
    } while (0)
    for (i = 0; i + half < count; i++) {
        FLIP_PIECE(i);
        FLIP_PIECE(i + half);
    }
    if (i < half) FLIP_PIECE(i);
#undef FLIP_PIECE
}

/* As `flip_runs` for a grid of the mask's own size, or of no more columns than it has. */
VBMI static void flip_runs_vbmi(i64 num_runs, i64 height, const Scratch *scratch, Grid *grid, int same)
{
    const __m512i firsts = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i seconds = _mm512_add_epi32(firsts, _mm512_set1_epi32(1));
    const Divider by = make_divider(height);
    const __m512i factor = _mm512_set1_epi64((i64)by.factor), heights = _mm512_set1_epi32((int)height);
    const __m128i shift = _mm_cvtsi32_si128(by.shift);
    const __m512i stride = _mm512_set1_epi32((int)grid->stride), left = _mm512_set1_epi32((int)grid->box.x0);
    __m512i top = _mm512_set1_epi32(-1), bottom = _mm512_setzero_si512();
    u64 *flips = scratch->flips;
    const i64 room = num_runs / 2 + PIECES_SPARE;
    u32 *starts = scratch->pieces, *stops = starts + room, *columns = stops + room;
    i64 at, count = 0;
    for (at = 0; at + 1 < num_runs; at += 32) {
        const u64 here = num_runs - at < 32 ? ((u64)1 << ((num_runs - at) & ~(i64)1)) - 1 : 0xffffffff;
        const __m512i low = _mm512_maskz_loadu_epi32((__mmask16)here, scratch->ends + at);
        const __m512i high = _mm512_maskz_loadu_epi32((__mmask16)(here >> 16), scratch->ends + at + 16);
        const __m512i start = _mm512_permutex2var_epi32(low, firsts, high);
        const __m512i length = _mm512_sub_epi32(_mm512_permutex2var_epi32(low, seconds, high), start);
        const __m512i even = _mm512_srl_epi64(_mm512_mul_epu32(start, factor), shift);
        const __m512i odd = _mm512_srl_epi64(_mm512_mul_epu32(_mm512_srli_epi64(start, 32), factor), shift);
        const __m512i column = _mm512_or_si512(even, _mm512_slli_epi64(odd, 32));
        const __m512i row = _mm512_sub_epi32(start, _mm512_mullo_epi32(column, heights));
        const __m512i stop = _mm512_add_epi32(row, length);
        const __mmask16 some = _mm512_test_epi32_mask(length, length);
        u32 tall = _mm512_mask_cmpgt_epu32_mask(some, stop, heights);
        __mmask16 one = (__mmask16)(some & ~tall); /* runs within one column */
        __m512i x = column, from = row, to = stop;
        for (; tall; tall &= tall - 1) {
            const u32 *ends = scratch->ends + at + 2 * lowest_bit(tall);
            if (same)
                flip_runs(ends, 2, height, NULL, NULL, flips, grid, SAME_SIZE);
            else
                flip_runs(ends, 2, height, scratch->first_row, scratch->first_column, flips, grid, NOT_WIDER);
        }
        if (!same) {
            x = _mm512_mask_i32gather_epi32(_mm512_set1_epi32(-1), one, column, scratch->only_column, 4);
            one = _mm512_mask_cmpneq_epi32_mask(one, x, _mm512_set1_epi32(-1));
        }
        top = _mm512_mask_min_epu32(top, one, top, row);
        bottom = _mm512_mask_max_epu32(bottom, one, bottom, stop);
        x = _mm512_sub_epi32(x, left);
        if (same) {
            from = _mm512_add_epi32(_mm512_mullo_epi32(row, stride), _mm512_srli_epi32(x, 6));
            to = _mm512_add_epi32(from, _mm512_mullo_epi32(length, stride));
        }
        _mm512_storeu_si512(columns + count, _mm512_maskz_compress_epi32(one, x));
        _mm512_storeu_si512(starts + count, _mm512_maskz_compress_epi32(one, from));
        _mm512_storeu_si512(stops + count, _mm512_maskz_compress_epi32(one, to));
        count += _mm_popcnt_u32(one);
    }
    if (same)
        flip_pieces(starts, stops, columns, count, flips, NULL, 0);
    else
        flip_pieces(starts, stops, columns, count, flips, scratch->first_row, grid->stride);
    {
        const i64 first = _mm512_reduce_min_epu32(top), last = _mm512_reduce_max_epu32(bottom);
        const i64 y0 = first > height ? INT64_MAX : same ? first : scratch->first_row[first];
        const i64 y1 = same ? last : scratch->first_row[last];
        grid->box.y0 = y0 < grid->box.y0 ? y0 : grid->box.y0;
        grid->box.y1 = y1 > grid->box.y1 ? y1 : grid->box.y1;
    }
}
#endif /* RLE_FLIPPING */

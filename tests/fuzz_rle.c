/* Fuzzer of the RLE kernels: random, mutated and valid strings through every kernel, under AddressSanitizer and UBSan.
 *
 *     cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all tests/fuzz_rle.c -o fuzz_rle
 *     ./fuzz_rle 1000000 1      (number of strings, seed)
 *
 * A plain reading of the format, written anew here, says for each string whether it is good and what its pixels are.
 * Kernels must agree with it, write nothing for a bad string, and leave their scratch memory zeroed. Every string lies
 * in memory of exactly its length, so that one byte read past it is found.
 */
#define RLE_WITHOUT_PYTHON
#include "../sa1b_hf/_rle.c"

#include <stdio.h>

enum { MAX_RUNS = 2000 };

static u64 state;

static u64 below(u64 limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % limit;
}

static void fail(const char *what, long index)
{
    printf("string %ld: %s\n", index, what);
    exit(1);
}

/* Runs of a good string, their number; -1 for a bad one. */
static i64 read_plainly(const u8 *text, i64 length, i64 total, i64 *runs)
{
    i64 at = 0, count = 0, sum = 0;
    while (at < length) {
        i64 value = 0, digits = 0;
        int group;
        do {
            if (at == length || digits == MAX_DIGITS) return -1;
            group = text[at++] - 48;
            if (group < 0 || group >= 64) return -1;
            value += (i64)(group % 32) << (5 * digits++);
        } while (group >= 32);
        if (group >= 16) value -= (i64)1 << (5 * digits);
        if (count > 2) value += runs[count - 2];
        if (value < 0 || (sum += value) > total) return -1;
        runs[count++] = value;
    }
    return sum == total ? count : -1;
}

static i64 random_bytes(u8 *text)
{
    const i64 length = (i64)below(below(8) ? 60 : 400);
    const u64 kind = below(3);
    i64 i;
    for (i = 0; i < length; i++) text[i] = (u8)(kind == 0 ? below(256) : 48 + below(kind == 1 ? 64 : 16));
    return length;
}

static i64 random_runs(u8 *text, i64 height, i64 total)
{
    i64 runs[400], count = 0, left = total, i;
    u8 *to = text;
    while (left && count < 399) {
        i64 run = (i64)below(below(3) ? (u64)(2 * height + 1) : (u64)(left + 1));
        if (!below(6)) run = 0;
        if (run > left) run = left;
        runs[count++] = run;
        left -= run;
    }
    if (left || !below(4)) runs[count++] = left;
    for (i = 0; i < count; i++) to = write_number(to, i > 2 ? runs[i] - runs[i - 2] : runs[i]);
    return to - text;
}

/* A string in memory of its own length. */
static u8 *make_string(i64 height, i64 width, i64 *length)
{
    u8 buffer[4000], *text;
    if (below(4)) {
        *length = random_runs(buffer, height, height * width);
        if (*length && !below(3)) {
            u8 *one = buffer + below((u64)*length);
            *one = (u8)(below(2) ? *one ^ (u64)1 << below(8) : 48 + below(64));
        }
        if (*length && !below(6)) *length = (i64)below((u64)*length + 1);
    } else {
        *length = random_bytes(buffer);
    }
    text = malloc((size_t)*length + !*length);
    memcpy(text, buffer, (size_t)*length);
    return text;
}

/* One mask and what it decodes to. */
typedef struct {
    Job job;
    i64 offsets[2], sizes[2], next;
    u8 status, *dense; /* row-major */
    int good;
} Case;

static void check_status(Case *c, const char *what, long index)
{
    if (c->status != (c->good ? GOOD : MALFORMED)) fail(what, index);
    c->next = 0;
    c->status = 77;
}

static u8 pixel_of(const Case *c, const i64 *at, i64 y, i64 x)
{
    /* `at` gives the source row of each target row, then the source column of each target column */
    return c->dense[at[y] * c->sizes[1] + at[256 + x]];
}

/* Memory with bytes around it that are to stay: stores past the cache are not seen by the sanitizer. */
enum { FENCE = 192 };

static u8 *make_fenced(i64 size, i64 *shift)
{
    u8 *memory = malloc((size_t)size + 2 * FENCE);
    *shift = FENCE - (i64)below(64);
    memset(memory, 0xa5, (size_t)size + 2 * FENCE);
    return memset(memory + *shift, 0, (size_t)size);
}

static void free_fenced(u8 *fenced, i64 size, i64 shift, long index)
{
    u8 *memory = fenced - shift;
    i64 i;
    for (i = 0; i < size + 2 * FENCE; i++)
        if ((i < shift || i >= shift + size) && memory[i] != 0xa5) fail("a byte beside the planes", index);
    free(memory);
}

static void check_planes(Case *c, i64 th, i64 tw, const i64 *at, long index)
{
    const i64 row_bytes = (tw + 7) / 8;
    i64 out_shift, bit_shift;
    u8 *out = make_fenced(th * tw, &out_shift), *bits = make_fenced(th * row_bytes, &bit_shift);
    u32 *labels = calloc((size_t)(th * tw), sizeof(u32));
    float *soft = malloc((size_t)(th * tw) * sizeof(float));
    i64 notes[4 + 4] = {0}, bit_notes[4 + 4] = {0, 0, row_bytes, th}, order = 0, y, x;
    const int stream = simd_level >= 2;
    const Plane plane = {out, th, tw, 64, stream}, bit_plane = {bits, th, row_bytes, 8, stream};
    const i64 label_bytes = (i64)1 << below(3);
    const int little = (int)below(2);
    if (below(2)) {
        /* whatever they held, planes are cleared */
        memset(out, 0x5a, (size_t)(th * tw));
        decode_planes(&c->job, th, tw, out, NULL, 1);
        check_status(c, "dirty planes: status", index);
        for (y = 0; y < th * tw; y++)
            if (out[y] != (c->good ? pixel_of(c, at, y / tw, y % tw) : 0)) fail("dirty planes: pixels", index);
        memset(out, 0, (size_t)(th * tw));
    }
    decode_planes(&c->job, th, tw, out, notes, 0);
    check_status(c, "planes: status", index);
    decode_bits(&c->job, th, tw, bits, NULL, little);
    check_status(c, "bits: status", index);
    decode_labels(&c->job, &order, 1, th, tw, (u8 *)labels, label_bytes);
    check_status(c, "labels: status", index);
    for (y = 0; y < th; y++)
        for (x = 0; x < tw; x++) {
            const u8 want = c->good ? pixel_of(c, at, y, x) : 0;
            const int bit = bits[y * row_bytes + x / 8] >> (little ? x % 8 : 7 - x % 8) & 1;
            u32 label = 0;
            memcpy(&label, (u8 *)labels + (y * tw + x) * label_bytes, (size_t)label_bytes);
            if (out[y * tw + x] != want) fail("planes: pixels", index);
            if (bit != want) fail("bits: pixels", index);
            if (BIG_ENDIAN_HOST ? !label != !want : label != want) fail("labels: pixels", index);
        }
    clear_plane(&plane, notes);
    for (y = 0; y < th * tw; y++)
        if (out[y]) fail("clear: a pixel is left", index);
    decode_bits(&c->job, th, tw, bits, bit_notes, little);
    check_status(c, "bits again: status", index);
    clear_plane(&bit_plane, bit_notes);
    for (y = 0; y < th * row_bytes; y++)
        if (bits[y]) fail("clear: a bit is left", index);
    memset(soft, 0, (size_t)(th * tw) * sizeof(float));
    decode_average(&c->job, th, tw, soft, 1);
    check_status(c, "average: status", index);
    for (y = 0; y < th * tw; y++)
        if (!(soft[y] >= 0 && soft[y] <= 1) || (!c->good && soft[y] != 0)) fail("average: range", index);
    free_fenced(out, th * tw, out_shift, index);
    free_fenced(bits, th * row_bytes, bit_shift, index);
    free(labels);
    free(soft);
}

static void check_measures(Case *c, long index)
{
    const i64 height = c->sizes[0], width = c->sizes[1];
    i64 area = 0, box[4] = {0}, want = 0, first[2], crop_offsets[2] = {0}, shared = 0, areas[2], points[2], y, x;
    u32 *ends = malloc((size_t)(c->offsets[1] + ENDS_SPARE) * sizeof(u32));
    u8 *crop, inside = 0;
    i64 crop_shift;
    measure_masks(&c->job, &area, box);
    check_status(c, "measure: status", index);
    for (y = 0; y < height * width; y++) want += c->dense[y];
    if (area != (c->good ? want : 0)) fail("measure: area", index);
    crop_offsets[1] = (box[2] - box[0]) * (box[3] - box[1]);
    crop = make_fenced(crop_offsets[1], &crop_shift);
    decode_crops(&c->job, crop, crop_offsets);
    check_status(c, "crops: status", index);
    for (y = box[1]; y < box[3]; y++)
        for (x = box[0]; x < box[2]; x++)
            if (crop[(y - box[1]) * (box[2] - box[0]) + x - box[0]] != c->dense[y * width + x]) fail("crop", index);
    parse_masks(&c->job, ends, first);
    check_status(c, "parse: status", index);
    points[0] = (i64)below((u64)width + 4) - 2;
    points[1] = (i64)below((u64)height + 4) - 2;
    find_points(&c->job, points, 1, &inside);
    check_status(c, "points: status", index);
    if (points[0] >= 0 && points[0] < width && points[1] >= 0 && points[1] < height && c->good) {
        if (inside != c->dense[points[1] * width + points[0]]) fail("points: answer", index);
    } else if (inside) {
        fail("points: outside", index);
    }
    intersect(&c->job, below(2) ? &c->job : NULL, areas, areas + 1, &shared);
    check_status(c, "intersect: status", index);
    if (c->good && shared != want) fail("intersect: area", index);
    free(ends);
    free_fenced(crop, crop_offsets[1], crop_shift, index);
}

static void check_encoding(Case *c, long index)
{
    i64 runs[MAX_RUNS * 4], length, count, position = 0, y;
    u8 *text;
    if (encode_mask(c->dense, c->sizes[0], c->sizes[1], &text, &length) != GOOD) fail("encode: memory", index);
    count = read_plainly(text, length, c->sizes[0] * c->sizes[1], runs);
    if (count < 0) fail("encode: malformed", index);
    for (y = 0; y < count; position += runs[y++])
        if (runs[y] == 0 && y) fail("encode: an empty run", index);
        else if (runs[y] && c->dense[position % c->sizes[0] * c->sizes[1] + position / c->sizes[0]] != y % 2)
            fail("encode: another mask", index);
    free(text);
}

static int fuzz_one(long index)
{
    i64 runs[MAX_RUNS], at[256 + 1024], length, count, i, j, position = 0;
    const i64 height = 1 + (i64)below(40), width = 1 + (i64)below(below(4) ? 30 : 150);
    i64 th = 1 + (i64)below(50), tw = 1 + (i64)below(below(16) ? 200 : 1024);
    u8 *text = make_string(height, width, &length);
    Case c = {{0}, {0, 0}, {0, 0}, 0, 77, NULL, 0};
    if (!below(3)) {
        th = height;
        tw = width;
    }
    choose_simd((int)below(4));
    c.offsets[1] = length;
    c.sizes[0] = height;
    c.sizes[1] = width;
    c.job.text = text;
    c.job.offsets = c.offsets;
    c.job.sizes = c.sizes;
    c.job.num_masks = 1;
    c.job.status = &c.status;
    c.job.next = &c.next;
    count = read_plainly(text, length, height * width, runs);
    c.good = count >= 0;
    c.dense = calloc(1, (size_t)(height * width));
    for (i = 0; i < count; i++)
        for (j = 0; j < runs[i]; j++, position++) c.dense[position % height * width + position / height] = i & 1;
    for (i = 0; i < th; i++) at[i] = (i64)((double)i * (1.0 / ((double)th / (double)height)));
    for (i = 0; i < tw; i++) at[256 + i] = (i64)((double)i * (1.0 / ((double)tw / (double)width)));
    for (i = 0; i < th; i++) at[i] = at[i] < height ? at[i] : height - 1;
    for (i = 256; i < 256 + tw; i++) at[i] = at[i] < width ? at[i] : width - 1;
    check_planes(&c, th, tw, at, index);
    check_measures(&c, index);
    check_encoding(&c, index);
    free(c.dense);
    free(text);
    return c.good;
}

int main(int argc, char **argv)
{
    const long count = argc > 1 ? atol(argv[1]) : 10000;
    long index, good = 0;
    state = 88172645463325252u ^ ((argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 7919);
    for (index = 0; index < count; index++) good += fuzz_one(index);
    printf("%ld strings, %ld well-formed: all right\n", count, good);
    return good > count / 4 && good < count ? 0 : 1;
}

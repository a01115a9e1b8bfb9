/* SA-1B's JSON documents straight to the buffers of Arrow columns.
 *
 * A document is accepted or left alone: whatever is not plainly sound (or has a number too hard for 128 bits) is
 * rolled back and left to the strict reader in `_document.py`, which finds the reason. No recursion, no read past the
 * end of a document, and no Python object per mask.
 *
 * With SA1B_JSON_NO_PYTHON defined only the parser is compiled, for the fuzzer.
 */
#ifndef SA1B_JSON_NO_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_json_number.h"

typedef unsigned char Byte;

#define MAX_DEPTH 64
#define MAX_ANNOTATIONS 65536

/* ---- columns ---- */

/* The order is that of the tuple which `parse` returns. */
enum {
    IMAGE_ID, WIDTH, HEIGHT, FILE_NAME_OFFSETS, FILE_NAME, ANNOTATION_OFFSETS,
    ID, SIZE, COUNTS_OFFSETS, COUNTS, BBOX, AREA, PREDICTED_IOU, STABILITY_SCORE, POINT_OFFSETS, POINTS, CROP_BOX,
    COLUMNS
};

typedef struct {
    Byte *data;
    size_t length, capacity;
    int borrowed; /* large enough, and not ours to move */
} Buffer;

typedef struct {
    const Byte *at, *end;
    Buffer *columns;
    Buffer scratch; /* strings that nobody wants, and keys spelled in escapes */
    int out_of_memory;
} Parser;

static int grow(Parser *p, Buffer *buffer, size_t more)
{
    size_t wanted = buffer->length + more;
    if (buffer->borrowed || wanted < more || wanted > SIZE_MAX / 2) return p->out_of_memory = 1, 0;
    size_t capacity = buffer->capacity * 2 > wanted ? buffer->capacity * 2 : wanted + 256;
    Byte *data = realloc(buffer->data, capacity);
    if (!data) return p->out_of_memory = 1, 0;
    buffer->data = data;
    buffer->capacity = capacity;
    return 1;
}

static inline int reserve(Parser *p, Buffer *buffer, size_t more)
{
    return buffer->capacity - buffer->length >= more || grow(p, buffer, more);
}

static inline int push(Parser *p, int column, const void *value, size_t size)
{
    Buffer *buffer = &p->columns[column];
    if (!reserve(p, buffer, size)) return 0;
    memcpy(buffer->data + buffer->length, value, size);
    buffer->length += size;
    return 1;
}

/* All documents together have less than 2 GiB, so that every offset fits. */
static int push_offset(Parser *p, int column, size_t offset)
{
    int32_t value = (int32_t)offset;
    return push(p, column, &value, sizeof value);
}

/* ---- text ---- */

static void skip_space(Parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t')) p->at++;
}

static int take(Parser *p, Byte wanted)
{
    skip_space(p);
    if (p->at == p->end || *p->at != wanted) return 0;
    p->at++;
    return 1;
}

static int is_digit(const Parser *p)
{
    return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

/* Take a run of digits; give their number. Beyond 19 significant ones only the magnitude is kept. */
static size_t take_digits(Parser *p, Decimal *decimal, int in_fraction)
{
    const Byte *start = p->at;
    for (; is_digit(p); p->at++) {
        int digit = *p->at - '0';
        if (decimal->digits < UINT64_C(1000000000000000000)) {
            decimal->digits = decimal->digits * 10 + (uint64_t)digit;
            decimal->exponent -= in_fraction;
        } else {
            decimal->truncated |= digit != 0;
            decimal->exponent += !in_fraction;
        }
    }
    return (size_t)(p->at - start);
}

static int take_exponent(Parser *p, Decimal *decimal)
{
    int64_t exponent = 0;
    p->at++;
    int negative = p->at < p->end && *p->at == '-';
    if (negative || (p->at < p->end && *p->at == '+')) p->at++;
    if (!is_digit(p)) return 0;
    for (; is_digit(p); p->at++)
        if (exponent < INT64_C(1) << 40) exponent = exponent * 10 + (*p->at - '0');
    decimal->exponent += negative ? -exponent : exponent;
    return 1;
}

static int read_decimal(Parser *p, Decimal *decimal)
{
    memset(decimal, 0, sizeof *decimal);
    skip_space(p);
    if (p->at < p->end && *p->at == '-') decimal->negative = 1, p->at++;
    const Byte *first = p->at;
    size_t digits = take_digits(p, decimal, 0);
    if (!digits || (digits > 1 && *first == '0')) return 0;
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!take_digits(p, decimal, 1)) return 0;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) return take_exponent(p, decimal);
    return 1;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))
#define HIGH_BITS EACH(0x80)

/* Bytes that may be copied as they are: in `counts` '0' to 'o' but the backslash, elsewhere ASCII but quote,
 * backslash and control characters. */
static inline int is_plain(Byte byte, int counts)
{
    return byte != '\\' && (counts ? byte >= '0' && byte <= 'o' : byte >= ' ' && byte < 0x80 && byte != '"');
}

/* The same for eight bytes at once. A borrow or carry crosses bytes only after one that is not plain. */
static inline int are_plain(uint64_t bytes, int counts)
{
    uint64_t slash = bytes ^ EACH('\\'), quote = bytes ^ EACH('"');
    uint64_t stop = bytes | ((slash - EACH(1)) & ~slash);
    if (counts)
        stop |= (bytes + EACH(0x7f - 'o')) | ~(bytes + EACH(0x80 - '0'));
    else
        stop |= ((quote - EACH(1)) & ~quote) | ((bytes - EACH(' ')) & ~bytes);
    return !(stop & HIGH_BITS);
}

static int read_hex4(Parser *p, uint32_t *code)
{
    if (p->end - p->at < 4) return 0;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        Byte c = *p->at++, letter = c | 0x20;
        if (c >= '0' && c <= '9')
            *code = *code << 4 | (uint32_t)(c - '0');
        else if (letter >= 'a' && letter <= 'f')
            *code = *code << 4 | (uint32_t)(letter - 'a' + 10);
        else
            return 0;
    }
    return 1;
}

/* Read what follows a backslash. */
static int read_escape(Parser *p, uint32_t *code)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) return 0;
    Byte c = *p->at++;
    if (c != 'u') {
        const char *found = memchr(letters, c, sizeof letters - 1);
        if (!found) return 0;
        *code = (uint32_t)meanings[found - letters];
        return 1;
    }
    if (!read_hex4(p, code)) return 0;
    if (*code < 0xd800 || *code > 0xdfff) return 1;
    uint32_t low;
    if (*code > 0xdbff || p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') return 0;
    p->at += 2;
    if (!read_hex4(p, &low) || low < 0xdc00 || low > 0xdfff) return 0;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return 1;
}

static Byte *put_utf8(Byte *to, uint32_t code)
{
    if (code < 0x80) return *to = (Byte)code, to + 1;
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const Byte leads[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (Byte)(leads[more] | code >> (6 * more));
    while (more--) *to++ = (Byte)(0x80 | (code >> (6 * more) & 0x3f));
    return to;
}

/* Copy one character of two to four bytes, well-formed by table 3-7 of the Unicode standard. */
static Byte *copy_utf8(Parser *p, Byte *to)
{
    Byte lead = p->at[0];
    int length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (!length || p->end - p->at < length) return NULL;
    Byte low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    Byte high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (p->at[1] < low || p->at[1] > high) return NULL;
    for (int i = 2; i < length; i++)
        if ((p->at[i] & 0xc0) != 0x80) return NULL;
    memcpy(to, p->at, (size_t)length);
    p->at += length;
    return to + length;
}

/* Append the characters of a string to `out`; the text is never longer than its spelling. */
static inline int read_characters(Parser *p, Buffer *out, int counts)
{
    if (!take(p, '"') || !reserve(p, out, (size_t)(p->end - p->at) + 1)) return 0;
    Byte *to = out->data + out->length;
    for (;;) {
        uint64_t bytes;
        for (; p->end - p->at >= 8; p->at += 8, to += 8) {
            memcpy(&bytes, p->at, 8);
            if (!are_plain(bytes, counts)) break;
            memcpy(to, &bytes, 8);
        }
        while (p->at < p->end && is_plain(*p->at, counts)) *to++ = *p->at++;
        if (p->at == p->end) return 0;
        if (*p->at == '"') break;
        if (*p->at == '\\') {
            uint32_t code;
            p->at++;
            if (!read_escape(p, &code) || (counts && (code < '0' || code > 'o'))) return 0;
            to = put_utf8(to, code);
        } else if (counts || *p->at < 0x80 || !(to = copy_utf8(p, to)))
            return 0;
    }
    p->at++;
    out->length = (size_t)(to - out->data);
    return 1;
}

static int read_text(Parser *p, Buffer *out)
{
    return read_characters(p, out, 0);
}

static int skip_text(Parser *p)
{
    p->scratch.length = 0;
    return read_text(p, &p->scratch);
}

static int skip_literal(Parser *p, const char *literal)
{
    size_t length = strlen(literal);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, literal, length)) return 0;
    p->at += length;
    return 1;
}

static int skip_scalar(Parser *p)
{
    Decimal ignored;
    switch (*p->at) {
    case '"': return skip_text(p);
    case 't': return skip_literal(p, "true");
    case 'f': return skip_literal(p, "false");
    case 'n': return skip_literal(p, "null");
    default: return read_decimal(p, &ignored);
    }
}

/* Skip any value inside `depth` lists and objects; one bit for each that it opens tells an object from a list. */
static int skip_value(Parser *p, unsigned depth)
{
    uint64_t objects = 0;
    unsigned open = 0;
    for (;;) {
        skip_space(p);
        if (p->at == p->end) return 0;
        if (*p->at == '{' || *p->at == '[') {
            if (depth + open == MAX_DEPTH) return 0;
            objects = objects << 1 | (*p->at++ == '{');
            open++;
            if (!take(p, objects & 1 ? '}' : ']')) {
                if ((objects & 1) && !(skip_text(p) && take(p, ':'))) return 0;
                continue;
            }
            objects >>= 1;
            open--;
        } else if (!skip_scalar(p))
            return 0;
        while (open && !take(p, ',')) {
            if (!take(p, objects & 1 ? '}' : ']')) return 0;
            objects >>= 1;
            open--;
        }
        if (!open) return 1;
        if ((objects & 1) && !(skip_text(p) && take(p, ':'))) return 0;
    }
}

/* ---- values ---- */

static int read_integer(Parser *p, int64_t low, int64_t high, int64_t *value)
{
    Decimal decimal;
    return read_decimal(p, &decimal) && decimal_to_integer(&decimal, value) && low <= *value && *value <= high;
}

static int read_int64(Parser *p, int column, int64_t low)
{
    int64_t value;
    return read_integer(p, low, INT64_MAX, &value) && push(p, column, &value, sizeof value);
}

static int read_int32(Parser *p, int column, int32_t low)
{
    int64_t value;
    if (!read_integer(p, low, INT32_MAX, &value)) return 0;
    int32_t narrow = (int32_t)value;
    return push(p, column, &narrow, sizeof narrow);
}

static int read_double(Parser *p, int column)
{
    Decimal decimal;
    double value;
    return read_decimal(p, &decimal) && decimal_to_double(&decimal, &value) && push(p, column, &value, sizeof value);
}

static int read_doubles(Parser *p, int column, int count)
{
    if (!take(p, '[')) return 0;
    for (int i = 0; i < count; i++)
        if ((i && !take(p, ',')) || !read_double(p, column)) return 0;
    return take(p, ']');
}

static int read_points(Parser *p)
{
    if (!take(p, '[')) return 0;
    if (!take(p, ']')) {
        do
            if (!read_doubles(p, POINTS, 2)) return 0;
        while (take(p, ','));
        if (!take(p, ']')) return 0;
    }
    return push_offset(p, POINT_OFFSETS, p->columns[POINTS].length / (2 * sizeof(double)));
}

static int read_size(Parser *p)
{
    return take(p, '[') && read_int32(p, SIZE, INT32_MIN) && take(p, ',') && read_int32(p, SIZE, INT32_MIN) &&
           take(p, ']');
}

static int read_file_name(Parser *p)
{
    Buffer *names = &p->columns[FILE_NAME];
    return read_text(p, names) && push_offset(p, FILE_NAME_OFFSETS, names->length);
}

static int read_counts(Parser *p)
{
    Buffer *counts = &p->columns[COUNTS];
    size_t start = counts->length;
    if (!read_characters(p, counts, 1) || counts->length == start) return 0;
    int continues = (counts->data[counts->length - 1] - '0') & 0x20;
    return !continues && push_offset(p, COUNTS_OFFSETS, counts->length);
}

/* ---- objects ---- */

enum { END = -1, BAD = -2 };

typedef struct {
    const char *name;
    size_t length;
} Key;

#define KEY(name) {name, sizeof name - 1}
#define STARTED (1u << 31) /* in a set of keys: one member, of whatever key, was there */
#define NUM_KEYS(keys) ((int)(sizeof keys / sizeof *keys))

/* Go to the next member of an object whose keys are known and wanted once, over all others.
 * Gives the key's index, with the value ahead; or END, after the brace, if every key was there; or BAD. */
static int next_member(Parser *p, const Key *keys, int num_keys, unsigned depth, unsigned *seen)
{
    for (;;) {
        if (take(p, '}')) return *seen == (STARTED | ((1u << num_keys) - 1)) ? END : BAD;
        if ((*seen & STARTED) && !take(p, ',')) return BAD;
        *seen |= STARTED;
        p->scratch.length = 0;
        if (!read_text(p, &p->scratch) || !take(p, ':')) return BAD;
        for (int key = 0; key < num_keys; key++) {
            if (p->scratch.length != keys[key].length) continue;
            if (memcmp(p->scratch.data, keys[key].name, keys[key].length)) continue;
            if (*seen & 1u << key) return BAD;
            *seen |= 1u << key;
            return key;
        }
        if (!skip_value(p, depth)) return BAD;
    }
}

static int read_image(Parser *p)
{
    static const Key keys[] = {KEY("image_id"), KEY("width"), KEY("height"), KEY("file_name")};
    unsigned seen = 0;
    int fine = take(p, '{');
    while (fine) {
        switch (next_member(p, keys, NUM_KEYS(keys), 2, &seen)) {
        case 0: fine = read_int64(p, IMAGE_ID, INT64_MIN); break;
        case 1: fine = read_int32(p, WIDTH, 1); break;
        case 2: fine = read_int32(p, HEIGHT, 1); break;
        case 3: fine = read_file_name(p); break;
        case END: return 1;
        default: return 0;
        }
    }
    return 0;
}

static int read_segmentation(Parser *p)
{
    static const Key keys[] = {KEY("size"), KEY("counts")};
    unsigned seen = 0;
    int fine = take(p, '{');
    while (fine) {
        switch (next_member(p, keys, NUM_KEYS(keys), 4, &seen)) {
        case 0: fine = read_size(p); break;
        case 1: fine = read_counts(p); break;
        case END: return 1;
        default: return 0;
        }
    }
    return 0;
}

static int read_annotation(Parser *p)
{
    static const Key keys[] = {KEY("bbox"),          KEY("area"),         KEY("segmentation"), KEY("predicted_iou"),
                               KEY("point_coords"),  KEY("crop_box"),     KEY("id"),           KEY("stability_score")};
    unsigned seen = 0;
    int fine = take(p, '{');
    while (fine) {
        switch (next_member(p, keys, NUM_KEYS(keys), 3, &seen)) {
        case 0: fine = read_doubles(p, BBOX, 4); break;
        case 1: fine = read_int64(p, AREA, 0); break;
        case 2: fine = read_segmentation(p); break;
        case 3: fine = read_double(p, PREDICTED_IOU); break;
        case 4: fine = read_points(p); break;
        case 5: fine = read_doubles(p, CROP_BOX, 4); break;
        case 6: fine = read_int64(p, ID, INT64_MIN); break;
        case 7: fine = read_double(p, STABILITY_SCORE); break;
        case END: return 1;
        default: return 0;
        }
    }
    return 0;
}

static int read_annotations(Parser *p)
{
    if (!take(p, '[')) return 0;
    if (!take(p, ']')) {
        int count = 0;
        do
            if (count++ == MAX_ANNOTATIONS || !read_annotation(p)) return 0;
        while (take(p, ','));
        if (!take(p, ']')) return 0;
    }
    return push_offset(p, ANNOTATION_OFFSETS, p->columns[ID].length / sizeof(int64_t));
}

/* The mask sizes from byte `start` of their column on are the image's, which came last in its columns. */
static int sizes_match(const Parser *p, size_t start)
{
    const Buffer *size = &p->columns[SIZE], *height = &p->columns[HEIGHT], *width = &p->columns[WIDTH];
    int32_t expected[2];
    memcpy(&expected[0], height->data + height->length - sizeof(int32_t), sizeof(int32_t));
    memcpy(&expected[1], width->data + width->length - sizeof(int32_t), sizeof(int32_t));
    for (; start < size->length; start += sizeof expected)
        if (memcmp(size->data + start, expected, sizeof expected)) return 0;
    return 1;
}

static int has_image_id(const Parser *p, const Byte *expected)
{
    const Buffer *ids = &p->columns[IMAGE_ID];
    return !memcmp(ids->data + ids->length - sizeof(int64_t), expected, sizeof(int64_t));
}

static int read_document(Parser *p, const Byte *image_id)
{
    static const Key keys[] = {KEY("image"), KEY("annotations")};
    size_t start = p->columns[SIZE].length;
    unsigned seen = 0;
    int fine = take(p, '{');
    while (fine) {
        switch (next_member(p, keys, NUM_KEYS(keys), 1, &seen)) {
        case 0: fine = read_image(p) && (!image_id || has_image_id(p, image_id)); break;
        case 1: fine = read_annotations(p); break;
        case END:
            skip_space(p);
            return p->at == p->end && sizes_match(p, start);
        default: return 0;
        }
    }
    return 0;
}

/* Append one document to the columns, or leave them as they were. */
static int parse_document(Parser *p, const Byte *text, size_t length, const Byte *image_id)
{
    size_t lengths[COLUMNS];
    for (int column = 0; column < COLUMNS; column++) lengths[column] = p->columns[column].length;
    p->at = text;
    p->end = text + length;
    if (read_document(p, image_id)) return 1;
    for (int column = 0; column < COLUMNS; column++) p->columns[column].length = lengths[column];
    return 0;
}

static int begin_columns(Parser *p)
{
    return push_offset(p, FILE_NAME_OFFSETS, 0) && push_offset(p, ANNOTATION_OFFSETS, 0) &&
           push_offset(p, COUNTS_OFFSETS, 0) && push_offset(p, POINT_OFFSETS, 0);
}

static void free_columns(Parser *p)
{
    for (int column = 0; column < COLUMNS; column++)
        if (!p->columns[column].borrowed) free(p->columns[column].data);
    free(p->scratch.data);
}

/* ---- Python ---- */

#ifndef SA1B_JSON_NO_PYTHON

typedef struct {
    const Byte *data;
    size_t length;
} Text;

/* Borrow the bytes of each document; their tuple keeps them alive. */
static Text *borrow_texts(PyObject *documents)
{
    Py_ssize_t count = PyTuple_Size(documents);
    size_t total = 0;
    Text *texts = PyMem_Malloc(((size_t)count + 1) * sizeof *texts);
    if (!texts) return (Text *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        char *data;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(documents, i), &data, &length)) goto failed;
        texts[i].data = (const Byte *)data;
        texts[i].length = (size_t)length;
        total += (size_t)length;
        if (total > INT32_MAX - 1024) {
            PyErr_SetString(PyExc_OverflowError, "documents: expected less than 2 GiB together");
            goto failed;
        }
    }
    return texts;
failed:
    PyMem_Free(texts);
    return NULL;
}

/* `counts` is the buffer of that column, longer than what was written into it. */
static PyObject *columns_to_tuple(const Buffer *columns, PyObject *counts)
{
    PyObject *tuple = PyTuple_New(COLUMNS);
    for (int column = 0; tuple && column < COLUMNS; column++) {
        const Buffer *buffer = &columns[column];
        PyObject *bytes = counts;
        if (column == COUNTS)
            Py_INCREF(counts);
        else
            bytes = PyBytes_FromStringAndSize((const char *)buffer->data, (Py_ssize_t)buffer->length);
        if (!bytes || PyTuple_SetItem(tuple, column, bytes)) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *parse_texts(const Text *texts, Py_ssize_t count, const Byte *image_ids)
{
    Buffer columns[COLUMNS] = {{NULL, 0, 0, 0}};
    Parser parser = {NULL, NULL, columns, {NULL, 0, 0, 0}, 0};
    PyObject *accepted = PyBytes_FromStringAndSize(NULL, count), *tuple = NULL;
    /* The counts are most of the bytes, and never more than the documents: written in place, they need no copy. */
    size_t capacity = 1;
    for (Py_ssize_t i = 0; i < count; i++) capacity += texts[i].length;
    PyObject *counts = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
    if (!accepted || !counts) goto done;
    columns[COUNTS].data = (Byte *)PyBytes_AsString(counts);
    columns[COUNTS].capacity = capacity;
    columns[COUNTS].borrowed = 1;
    char *flags = PyBytes_AsString(accepted);
    Py_BEGIN_ALLOW_THREADS
    if (begin_columns(&parser))
        for (Py_ssize_t i = 0; i < count && !parser.out_of_memory; i++) {
            const Byte *image_id = image_ids ? image_ids + (size_t)i * sizeof(int64_t) : NULL;
            flags[i] = (char)parse_document(&parser, texts[i].data, texts[i].length, image_id);
        }
    Py_END_ALLOW_THREADS
    if (parser.out_of_memory)
        PyErr_NoMemory();
    else
        tuple = columns_to_tuple(columns, counts);
done:
    free_columns(&parser);
    PyObject *result = tuple ? PyTuple_Pack(2, tuple, accepted) : NULL;
    Py_XDECREF(tuple);
    Py_XDECREF(counts);
    Py_XDECREF(accepted);
    return result;
}

static PyObject *parse(PyObject *module, PyObject *args)
{
    PyObject *sequence, *image_ids;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO:parse", &sequence, &image_ids)) return NULL;
    PyObject *documents = PySequence_Tuple(sequence), *result = NULL;
    if (!documents) return NULL;
    Py_ssize_t count = PyTuple_Size(documents), length = 0;
    char *ids = NULL;
    Text *texts = borrow_texts(documents);
    if (texts && image_ids != Py_None && PyBytes_AsStringAndSize(image_ids, &ids, &length))
        ; /* the error is set */
    else if (texts && ids && length != count * (Py_ssize_t)sizeof(int64_t))
        PyErr_SetString(PyExc_ValueError, "image_ids: expected 8 bytes for each document");
    else if (texts)
        result = parse_texts(texts, count, (const Byte *)ids);
    PyMem_Free(texts);
    Py_DECREF(documents);
    return result;
}

static PyMethodDef METHODS[] = {
    {"parse", parse, METH_VARARGS,
     "parse(documents, image_ids)\n--\n\n"
     "Parse `bytes` documents; image_ids is None or int64 as bytes. Gives the buffers of the columns, as a tuple of\n"
     "bytes, and one byte for each document: 1 if it was accepted. Releases the GIL."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "sa1b_hf._json", "SA-1B's JSON documents to the buffers of Arrow columns.", 0, METHODS, SLOTS,
    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__json(void)
{
    return PyModuleDef_Init(&MODULE);
}

#endif

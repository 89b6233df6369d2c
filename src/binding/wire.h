/* wire.h - the format of a stream: what its bytes say. The table is in docs/design/codec.md.
 *
 * For encode.c, decode.c and pickling.c alone. */
#ifndef LVRI_BINDING_WIRE_H
#define LVRI_BINDING_WIRE_H

enum lvri_wire {
  LVRI_WIRE_INT = 0x00, /* the int itself, up to LVRI_WIRE_INT_MAX */
  LVRI_WIRE_INT_MAX = 0x7f,
  LVRI_WIRE_WORD = 0x80,      /* plus how many ASCII characters */
  LVRI_WIRE_FEW_TUPLE = 0xa0, /* plus how many items */
  LVRI_WIRE_FEW_LIST = 0xb0,
  LVRI_WIRE_FEW_DICT = 0xc0,
  LVRI_WIRE_NONE = 0xd0,
  LVRI_WIRE_FALSE,
  LVRI_WIRE_TRUE,
  LVRI_WIRE_FLOAT,
  LVRI_WIRE_INT8,
  LVRI_WIRE_INT16,
  LVRI_WIRE_INT32,
  LVRI_WIRE_INT64,
  LVRI_WIRE_LONG,
  LVRI_WIRE_ASCII,
  LVRI_WIRE_LATIN1,
  LVRI_WIRE_UCS2,
  LVRI_WIRE_UCS4,
  LVRI_WIRE_BYTES,
  LVRI_WIRE_BYTEARRAY,
  LVRI_WIRE_TUPLE,
  LVRI_WIRE_LIST,
  LVRI_WIRE_DICT,
  LVRI_WIRE_AGAIN,
  LVRI_WIRE_PICKLE,
  LVRI_WIRE_PICKLE_BUFFERS,
};

#define LVRI_WORD_MAX 31u /* of LVRI_WIRE_WORD */
#define LVRI_FEW_MAX  15u /* of LVRI_WIRE_FEW_* */

/* A size: one byte up to LVRI_SIZE_BYTE, or one of these and a number of 2, 4, 8 bytes. */
#define LVRI_SIZE_BYTE 252u
#define LVRI_SIZE_16   253u
#define LVRI_SIZE_32   254u
#define LVRI_SIZE_64   255u

/* A key nested deeper is not direct: it is hashed by a recursion that nothing guards. */
#define LVRI_KEY_DEPTH 1000u

/* Behind a pickle with buffers: one byte for each (codec.h), and how many there are. */
#define LVRI_BUFFER_COUNT_BYTES 4u

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers in a stream, in the arena too, are little-endian"
#endif

#endif

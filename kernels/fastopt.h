/* The contract between the kernels and their callers.

   A kernel does the elements [begin, end) of the arrays named in its argument record: outputs first, then inputs,
   then scalars. Several threads may run disjoint ranges of one record at the same time, and no result depends on
   where the ranges are cut. Arrays are aligned for their type and contiguous. An output may be the very same array
   as an input where its note says so; apart from that, nothing written may overlap anything else. Nothing is
   checked here and nothing can fail: whoever fills a record has checked it.

   Every kernel exists for float and double; scalars are passed as double and rounded once to the arrays' type.

   Records and lists are in kernels/<family>/<family>.h, so that a family is compiled again where its own change. What a field
   may be stands behind it, and what follows for all of the record behind its end. The door is made from these files by
   kernels/declarations.py, and the fuzzer's inputs from these notes (tests/promises/notes.py):
     [rows, columns]           how many elements a pointer has: this many in C order
     or NULL                   as the caller likes; also: NULL; not NULL; the last or NULL (of an array of pointers)
     NULL with lower           when `lower` is; also: NULL where stride = 0
     may be x, may be x or y   the very same array
     uint8_t, adam_scalars     what a void pointer has, if not the type of arrays; RULE is the beginning of a kernel's name
     0..columns - 1            what a number, or each of an array, may be; 1.. has no end; also: 0 or columns; without a note
                               a double, an array or an unsigned number may be anything, an int is 0 or 1
     distinct                  all numbers of an array; also: numbered as they come (each new one is the next: 0 0 1 0 2);
                               parts of columns (together they are that number)
     changes nothing           whatever this number is, the results are the same
     size = n * width          behind a record: what a name stands for inside, a term or a range. n is the end of the range,
                               `bytes` what an element of type T has
     cut at 256                behind the end of a record: ranges begin at multiples
     ... in *_8bit             any of these, for kernels of that name alone; a later note replaces one of its form
     (words)                   for readers, at the end
   In terms ^ is a power, and a quotient is rounded up. One declaration a line, with all its notes. */
#ifndef FASTOPT_H
#define FASTOPT_H

#include "core/core.h"
#include "activations/activations.h"
#include "masking/masking.h"
#include "random/random.h"
#include "optimizers/optimizers.h"
#include "policy/policy.h"
#include "cem/cem.h"
#include "plan/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the one list of kernels ---------------------------------------------------------------------------------------- */

/* A family is a folder of kernels/, and compiled by itself. The door, the tests of equal bits and golden hashes, and the
   fuzzer follow this list of their lists. */
#define FASTOPT_FAMILIES(FAMILY) \
    FAMILY(core)                 \
    FAMILY(activations)          \
    FAMILY(masking)              \
    FAMILY(random)               \
    FAMILY(optimizers)           \
    FAMILY(policy)               \
    FAMILY(cem)                  \
    FAMILY(plan)

/* Those of the instruction set in use, set by fastopt_select_isa. */
#define FASTOPT_TABLE_POINTER(FAMILY) const fastopt_##FAMILY##_table *FAMILY;
typedef struct {
    FASTOPT_FAMILIES(FASTOPT_TABLE_POINTER)
} fastopt_tables;
extern fastopt_tables fastopt_kernels;

#ifdef __cplusplus
}
#endif
#endif

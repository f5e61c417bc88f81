// The table of the functions for compiled callers, of every family.
#include "activations/njit.hpp"
#include "masking/njit.hpp"
#include "optimizers/njit.hpp"
#include "policy/njit.hpp"
#include "random/njit.hpp"

extern "C" const fastopt_symbol fastopt_symbols[] = {
    FASTOPT_SYMBOLS_activations, FASTOPT_SYMBOLS_masking, FASTOPT_SYMBOLS_random,
    FASTOPT_SYMBOLS_optimizers,  FASTOPT_SYMBOLS_policy,  {nullptr, nullptr},
};

/* For bindgen only: gcc's <stdatomic.h> is not understood by libclang, and only
 * the types matter for layouts; the operations just have to parse. */
#ifndef FRONTRUN_STUB_STDATOMIC_H
#define FRONTRUN_STUB_STDATOMIC_H
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
typedef enum {
    memory_order_relaxed, memory_order_consume, memory_order_acquire,
    memory_order_release, memory_order_acq_rel, memory_order_seq_cst
} memory_order;
typedef _Atomic(_Bool) atomic_bool, atomic_flag;
typedef _Atomic(int) atomic_int;
typedef _Atomic(unsigned int) atomic_uint;
typedef _Atomic(size_t) atomic_size_t;
typedef _Atomic(intptr_t) atomic_intptr_t;
typedef _Atomic(uintptr_t) atomic_uintptr_t;
#define ATOMIC_VAR_INIT(value) (value)
#define atomic_init(p, v) __c11_atomic_init(p, v)
#define atomic_load_explicit(p, o) __c11_atomic_load(p, __ATOMIC_SEQ_CST)
#define atomic_store_explicit(p, v, o) __c11_atomic_store(p, v, __ATOMIC_SEQ_CST)
#define atomic_exchange_explicit(p, v, o) __c11_atomic_exchange(p, v, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_strong_explicit(p, e, v, s, f) \
    __c11_atomic_compare_exchange_strong(p, e, v, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit
#define atomic_fetch_add_explicit(p, v, o) __c11_atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
#define atomic_fetch_sub_explicit(p, v, o) __c11_atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST)
#define atomic_fetch_and_explicit(p, v, o) __c11_atomic_fetch_and(p, v, __ATOMIC_SEQ_CST)
#define atomic_fetch_or_explicit(p, v, o) __c11_atomic_fetch_or(p, v, __ATOMIC_SEQ_CST)
#define atomic_thread_fence(o) ((void)0)
#define atomic_signal_fence(o) ((void)0)
#define atomic_load(p) atomic_load_explicit(p, 0)
#define atomic_store(p, v) atomic_store_explicit(p, v, 0)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, 0)
#define atomic_exchange(p, v) atomic_exchange_explicit(p, v, 0)
#define atomic_compare_exchange_strong(p, e, v) atomic_compare_exchange_strong_explicit(p, e, v, 0, 0)
#define atomic_compare_exchange_weak(p, e, v) atomic_compare_exchange_strong_explicit(p, e, v, 0, 0)
#endif

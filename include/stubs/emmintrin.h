/* For bindgen only: no layout depends on vector intrinsics. */
static inline void _mm_pause(void) {}

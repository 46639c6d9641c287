/* Raises every `fetch_sub` to acquire and release, where ThreadSanitizer is told of it.
 *
 * `Arc` counts down with Release, and whoever finds itself the last makes an Acquire fence; ThreadSanitizer knows no fences,
 * and takes each last drop for a race. The standard library has a load instead of the fence for it, but comes compiled
 * without. What this hides is a count that wants an Acquire and has none: the models in src/models see that. */
#include <stdint.h>

enum { ACQ_REL = 4 };

uint64_t __real___tsan_atomic64_fetch_sub(volatile uint64_t *count, uint64_t by, int order);

uint64_t __wrap___tsan_atomic64_fetch_sub(volatile uint64_t *count, uint64_t by, int order) {
    (void)order;
    return __real___tsan_atomic64_fetch_sub(count, by, ACQ_REL);
}

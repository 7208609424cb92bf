// A handful of threads that sleep between calls.
//
// Not OpenMP: its threads spin while they wait, which starves other processes on shared cores, and a
// second copy of its runtime beside torch's is a source of trouble.
#pragma once
#include <cstdint>
#include <type_traits>

namespace cocogs {

using Task = void (*)(void* context, int64_t index);

// Calls task(context, i) for all 0 <= i < count, from at most `threads` threads, in no known order.
// Tasks must not throw.
void run_tasks(int threads, int64_t count, Task task, void* context);

template <class Body>
void parallel_for(int threads, int64_t count, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_tasks(
      threads, count, [](void* context, int64_t index) { (*static_cast<Plain*>(context))(index); },
      const_cast<std::remove_const_t<Plain>*>(&body));
}

}  // namespace cocogs

// A handful of threads that sleep between calls, and passes that can be cancelled.
//
// Not OpenMP: its threads spin while they wait, which starves other processes on shared cores, and a
// second copy of its runtime beside torch's is a source of trouble.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>
#include <type_traits>

namespace cocogs {

// Thrown by a pass that was cancelled. Its results are incomplete.
struct Cancelled : std::exception {
  const char* what() const noexcept override { return "the pass was cancelled"; }
};

// Tells the tasks of one pass whether to go on. Every thread may ask `stops` as often as it likes. The thread
// that made the object also calls `ask`, ten times a second, to learn whether the user wants the pass to end.
class Cancel {
 public:
  using Ask = bool (*)();  // must not throw
  explicit Cancel(Ask ask) : ask_(ask) {}

  bool stops() {
    if (ask_ && std::this_thread::get_id() == owner_) look();
    return requested_.load(std::memory_order_relaxed);
  }
  void check() {
    if (stops()) throw Cancelled();
  }

 private:
  using Clock = std::chrono::steady_clock;
  void look() {
    const Clock::time_point now = Clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    if (ask_()) requested_.store(true, std::memory_order_relaxed);
  }

  const Ask ask_;
  const std::thread::id owner_ = std::this_thread::get_id();
  Clock::time_point next_ = Clock::now() + std::chrono::milliseconds(100);  // short passes never ask
  std::atomic<bool> requested_{false};
};

using Task = void (*)(void* context, int64_t index);

// Calls task(context, i) for all 0 <= i < count, from at most `threads` threads, in no known order.
// Tasks must not throw. Throws Cancelled, after the tasks that had begun; others are left out then.
void run_tasks(int threads, int64_t count, Task task, void* context, Cancel& cancel);

template <class Body>
void parallel_for(int threads, int64_t count, Cancel& cancel, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_tasks(
      threads, count, [](void* context, int64_t index) { (*static_cast<Plain*>(context))(index); },
      const_cast<std::remove_const_t<Plain>*>(&body), cancel);
}

}  // namespace cocogs

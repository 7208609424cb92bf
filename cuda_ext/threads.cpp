#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "system.h"

namespace cocogs {
namespace {

class Pool {
 public:
  void run(int threads, int64_t count, Task task, void* context, Cancel& cancel) {
    grow(threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
      context_ = context;
      cancel_ = &cancel;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      wanted_ = threads - 1;
      ++job_;
    }
    wake_.notify_all();
    work();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // helpers that have not begun need not begin
    done_.wait(lock, [this] { return working_ == 0; });
  }

  bool usable() const { return process_ == process_id(); }  // threads do not survive a fork
  std::mutex busy;

 private:
  void grow(int helpers) {
    while (int(helpers_.size()) < helpers) helpers_.emplace_back([this] { help(); });
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (int64_t seen = 0;;) {
      wake_.wait(lock, [&] { return job_ != seen && wanted_ > 0; });
      seen = job_;
      --wanted_;
      ++working_;
      lock.unlock();
      work();
      lock.lock();
      if (--working_ == 0) done_.notify_one();
    }
  }

  void work() {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_ && !cancel_->stops();)
      task_(context_, i);
  }

  const int64_t process_ = process_id();
  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Task task_ = nullptr;
  void* context_ = nullptr;
  Cancel* cancel_ = nullptr;
  int64_t count_ = 0, job_ = 0;
  std::atomic<int64_t> next_{0};
  int wanted_ = 0, working_ = 0;
};

// Never destroyed: helpers sleep in it until the process ends.
Pool& pool() {
  static std::mutex mutex;
  static Pool* pool = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (!pool || !pool->usable()) pool = new Pool;
  return *pool;
}

}  // namespace

void run_tasks(int threads, int64_t count, Task task, void* context, Cancel& cancel) {
  if (threads > count) threads = int(count);
  std::unique_lock<std::mutex> lock;
  if (threads > 1) {
    Pool& shared = pool();
    lock = std::unique_lock<std::mutex>(shared.busy, std::try_to_lock);
    if (lock.owns_lock()) shared.run(threads, count, task, context, cancel);
  }
  // One thread is wanted, or another call has the helpers.
  if (!lock.owns_lock())
    for (int64_t i = 0; i < count && !cancel.stops(); ++i) task(context, i);
  cancel.check();
}

}  // namespace cocogs

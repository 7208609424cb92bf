#include "threads.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace cocogs {
namespace {

class Pool {
 public:
  void run(int threads, int64_t count, Task task, void* context) {
    grow(threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = task;
      context_ = context;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      wanted_ = threads - 1;
      ++job_;
    }
    wake_.notify_all();
    work();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // whoever has not begun need not begin
    done_.wait(lock, [this] { return working_ == 0; });
  }

  bool usable() const { return process_ == getpid(); }  // threads do not survive a fork
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
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(context_, i);
  }

  const pid_t process_ = getpid();
  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Task task_ = nullptr;
  void* context_ = nullptr;
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

void run_tasks(int threads, int64_t count, Task task, void* context) {
  if (threads > count) threads = int(count);
  if (threads > 1) {
    Pool& shared = pool();
    std::unique_lock<std::mutex> lock(shared.busy, std::try_to_lock);
    if (lock.owns_lock()) return shared.run(threads, count, task, context);
  }
  // One thread wanted, or another call has the helpers.
  for (int64_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace cocogs

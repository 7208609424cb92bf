// The splats that contribute most to a pixel, as they come, near to far.
#pragma once
#include "scalar.h"

namespace cocogs {

constexpr int kMostContributors = 16;

// `count` places for a weight and who it is of, from place 1 on, by falling weight; of equal weights the first to
// come stays first. Place 0 holds more than any weight, so that nobody moves there. Empty places hold 0.
//
// T is a number or a vector of them; Id is moved about unread.
template <class T, class Id>
COCOGS_HD void clear_ranking(T* weights, Id* ids, int count, const Id& nobody) {
  for (int k = 0; k <= count; ++k) {
    weights[k] = T(k == 0 ? 2 : 0);
    ids[k] = nobody;
  }
}
template <class T, class Id>
COCOGS_HD void rank(T* weights, Id* ids, int count, const T& weight, const Id& id) {
  auto passes = weight > weights[count];
  if (!any(passes)) return;
  // To the first place, wherever its own is: a branch that is often guessed wrong costs more.
  for (int k = count; k > 0; --k) {
    const auto passes_next = weight > weights[k - 1];
    weights[k] = maximum(weights[k], minimum(weight, weights[k - 1]));
    ids[k] = select(passes, select(passes_next, ids[k - 1], id), ids[k]);
    passes = passes_next;
  }
}

}  // namespace cocogs

#include "pool-managerd/core/events.h"

template struct orch::OneOf<orch::pool::EventKinds>;

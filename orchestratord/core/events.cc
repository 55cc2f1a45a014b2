#include "orchestratord/core/events.h"

template struct orch::OneOf<orch::gateway::EventKinds>;

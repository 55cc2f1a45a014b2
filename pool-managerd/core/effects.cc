#include "pool-managerd/core/effects.h"

template struct orch::OneOf<orch::pool::EffectKinds>;

"""Policies, which map observations to distributions over actions, and the options that build them."""

from surefoot.policies.actor_critic import (
    ActorCritic as ActorCritic,
    ActorCriticPolicy as ActorCriticPolicy,
)
from surefoot.policies.attention import (
    AttentionActorCritic as AttentionActorCritic,
    AttentionActorCriticPolicy as AttentionActorCriticPolicy,
)
from surefoot.policies.auxiliary import (
    AbstractAuxiliary as AbstractAuxiliary,
    NoAuxiliary as NoAuxiliary,
    PredictNextObservation as PredictNextObservation,
    PredictReward as PredictReward,
)
from surefoot.policies.base import (
    AbstractActorCritic as AbstractActorCritic,
    AbstractPolicy as AbstractPolicy,
    AbstractRecurrentActorCritic as AbstractRecurrentActorCritic,
    AbstractRecurrentPolicy as AbstractRecurrentPolicy,
    PolicyOptions as PolicyOptions,
    Role as Role,
    act as act,
    initial_memory as initial_memory,
    partition_by_role as partition_by_role,
    with_role as with_role,
)
from surefoot.policies.categorical import (
    CategoricalMLP as CategoricalMLP,
    CategoricalMLPPolicy as CategoricalMLPPolicy,
)
from surefoot.policies.gaussian import (
    GaussianMLP as GaussianMLP,
    GaussianMLPPolicy as GaussianMLPPolicy,
)
from surefoot.policies.gru import GRU as GRU, GRUPolicy as GRUPolicy
from surefoot.policies.hypernetwork import (
    HypernetworkActorCritic as HypernetworkActorCritic,
    HypernetworkActorCriticPolicy as HypernetworkActorCriticPolicy,
)
from surefoot.policies.mode import ModePolicy as ModePolicy
from surefoot.policies.normalised import NormalisedPolicy as NormalisedPolicy
from surefoot.policies.recurrent_actor_critic import (
    RecurrentActorCritic as RecurrentActorCritic,
    RecurrentActorCriticPolicy as RecurrentActorCriticPolicy,
)
from surefoot.policies.remembering import RememberingPolicy as RememberingPolicy
from surefoot.policies.wrapper import AbstractPolicyWrapper as AbstractPolicyWrapper

"""Continuous-time q-learning: model-free, and indifferent to the time step.

Jia and Zhou (2023), q-Learning in Continuous Time, JMLR 24; Jia and Zhou (2022), Policy Evaluation and Temporal-
Difference Learning in Continuous Time and Space: A Martingale Approach, JMLR 23. What is implemented, derived:

**Value and rate.** With temperature lam > 0 a randomised policy pi(a|x) earns, beside the reward, lam times its entropy:
J(x) = E int e^{-rho t} (r - lam log pi) dt. Let V be the best J and q(x, a) = r + V_t + L^a V - rho V, the rate at which
playing a differs from V. Of all densities, pi = exp(q/lam) / int exp(q/lam) da maximises int (q - lam log pi) pi da,
with maximum lam log int exp(q/lam) da; the HJB equation says that this maximum is 0. So

    int exp(q(x, a)/lam) da = 1    and    pi(a|x) = exp(q(x, a)/lam).                                              (1)

At lam = 0, (1) becomes max_a q = 0: the HJB equation without entropy.

**Martingale.** Let any actions a_t be played that do not foresee the noise. By Ito's formula and q's definition

    M_t = e^{-rho t} V(X_t) + int_0^t e^{-rho s} (r - q)(X_s, a_s) ds    is a martingale,                          (2)

with the plain reward r and q at the action that was played. Under pi itself -q = -lam log pi(a), so r - q is in the mean
the reward with its entropy: on-policy, (2) is policy evaluation. Conversely, (1) and (2) determine V and q: (2) says that
q = r + V_t + L^a V - rho V for the played actions, (1) that V is the best value. Entropy enters through (1) alone.

**Held actions.** Our environments hold a over a step of length dt and pay R = int_0^dt e^{-rho s} r ds (its conditional
mean where known). With gamma = e^{-rho dt} and kappa = int_0^dt e^{-rho s} ds = (1 - gamma)/rho,

    delta = R + gamma V(X') - V(X) - kappa q(X, a)                                                                 (3)

has mean zero given (X, a) up to O(dt^2) at the V and q of (1) and (2). We do not live with that error: we let
q_dt(x, a) = E[R + gamma V(X') - V(x) | x, a] / kappa define q at the dt at hand. Then (3) has mean zero exactly, and
(1) says V(x) = kappa lam log int exp((V + kappa q_dt)/(kappa lam)) da: the optimality equation of the sampled-data problem
that pays entropy at the rate lam. So the limit of learning is the optimum of the environment as it is sampled, O(dt) from
that of continuous time (`solution(dt)`, `solution()`), and q_dt -> q stays of order one where a Q-function would collapse
onto V. At an end E[V(X')] is 0 where the horizon is reached (the last R holds the terminal reward); a truncation is
none: X' is what was observed before the reset, and its value counts.

**Conditions.** (2) holds iff E sum_k zeta_k delta_k = 0 for all test functions zeta_k of what is known at step k, its
action included. The parameters are theta of V and psi of q.
  * "moments": zeta = (dV/d theta (X_k), dq/d psi (X_k, a_k)), as TD(0). Right whoever plays: data may be on-policy or not.
  * "martingale loss": 1/2 E sum_k G_k^2, with G_k = M_end - M_k in units of step k, the sum of gamma^j delta_{k+j} up to
    the end of the path (an episode or a block of data; the value there is held fixed, as M_end is a target). Its gradient
    in theta is -E sum_k dV/d theta (X_k) G_k, a moment condition with G for delta: right whoever plays. Its gradient in
    psi is -kappa E sum_j sum_{k <= j} gamma^{j-k} dq/d psi(X_j, a_j) G_k. Under pi, (1) gives E[dq/d psi | X_j] = 0, so
    increments before step j drop out of its mean, and those after are a martingale's: what is left is proportional to
    E dq/d psi (X_j, a_j) delta_j. Off pi the increments before j do not drop out and the loss has its minimum elsewhere;
    and their noise remains in any case: per unit of time it grows like 1/dt against the signal. So of the loss we keep
    the gradient in theta, and of the gradient in psi what is left: the condition of "moments".

**Robust in dt.** Over a time T the sum of zeta delta has a mean proportional to T and a variance proportional to T,
neither depending on dt as dt -> 0; the same is true of independent exploration at every step, since dq/d psi delta
correlates the noise in the action with the move of its own step. A step of stochastic gradients, on the other hand, has a
signal of dt and noise of sqrt(dt). So we solve the conditions summed over blocks of *time*, by Gauss-Newton (`martingale`).
For V and q linear in their features a Newton step on (1) and (3) is a policy iteration: by the envelope theorem (1) is
linear in q about the present pi, with the policy's own density as weight.

**Actions.** Proposals are Gaussian and unbounded, N(m(x), lam C(x)^{-1}) as (1) says for q quadratic in the action
(`value_and_rate`); the environment clips them to [-1, 1]^m. The action that counts in (3) is the clipped one, so that (3)
is exact whatever is clipped. (1) is over all of R^m: q is continued beyond the box as the quadratic that it is inside. Where
the proposals reach beyond the box V therefore counts a little entropy too much; at lam = 0, where annealing ends, it
counts as optimum the largest value of q's quadratic, which is attained if m(x) is in the box.
"""

"""The synthetic market keeps its promise: a signal computed from its frames has the skill asked.

The signal is computed here from the wire payloads by a second, naive implementation (numpy and
sklearn only), so that neither the market nor the product can flatter itself.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from signalcanary_workloads.exchange.faults import (
    CalibrationShift,
    Effects,
    FaultBook,
    ForcedRegime,
    FrozenMid,
    InvertedMaker,
    Skill,
)
from signalcanary_workloads.exchange.model import MarketParams, Regime
from signalcanary_workloads.exchange.protocol import Kind
from signalcanary_workloads.exchange.sources import EffectsAt, SyntheticSource

Floats = npt.NDArray[np.float64]

HORIZON = 10
WARM_UP = 320
DEFAULT = MarketParams()
CVD_USELESS = MarketParams(cvd_skill=0.0)


@dataclass(frozen=True)
class Signal:
    """Both features and the mid on the 1 s grid."""

    z_ofi: Floats
    z_cvd: Floats
    mid: Floats
    trades: Floats

    def rows(self, ofi_weight: float = 0.6) -> tuple[Floats, npt.NDArray[np.bool_], float]:
        """Scores and labels without ties; the share of ties."""
        at = np.arange(WARM_UP, len(self.mid) - HORIZON)
        score = (ofi_weight * self.z_ofi + (1 - ofi_weight) * self.z_cvd)[at]
        change = self.mid[at + HORIZON] - self.mid[at]
        kept = change != 0
        return score[kept], change[kept] > 0, 1 - kept.mean()

    def auc(self, ofi_weight: float = 0.6) -> float:
        score, up, _ = self.rows(ofi_weight)
        return float(roc_auc_score(up, score))

    def autocorrelation(self) -> float:
        score, _, _ = self.rows()
        return float(np.corrcoef(score[1:], score[:-1])[0, 1])

    def forward_ece(self) -> float:
        """Platt fitted on the first half, ECE of 10 equal-width bins on the second."""
        score, up, _ = self.rows()
        half = len(score) // 2
        train = slice(0, half - HORIZON)
        fit = LogisticRegression(C=1e6).fit(score[train, None], up[train])
        p, y = fit.predict_proba(score[half:, None])[:, 1], up[half:]
        bins = np.minimum((p * 10).astype(int), 9)
        return float(
            sum(
                (bins == b).mean() * abs(y[bins == b].mean() - p[bins == b].mean())
                for b in np.unique(bins)
            )
        )


def undisturbed(symbol: str, now_ms: float) -> Effects:
    return Effects()


def compute_signal(
    params: MarketParams, seed: int, seconds: int = 7200, effects_at: EffectsAt = undisturbed
) -> Signal:
    source = SyntheticSource(("BTCUSDT",), params, seed, 0, 1000)
    ofi, mid, z_cvd, trades = (np.zeros(seconds) for _ in range(4))
    quote: tuple[float, float, float, float] | None = None
    deltas: list[float] = []
    fast = slow = z = 0.0
    for second in range(seconds):
        for _, frame in source.emit((second + 1) * 1000, effects_at):
            if frame.kind is Kind.TRADE:
                continue
            wire = json.loads(frame.data)
            if frame.kind is Kind.BOOK_TICKER:
                new = (float(wire["b"]), float(wire["B"]), float(wire["a"]), float(wire["A"]))
                if quote is not None:
                    bid, bid_qty, ask, ask_qty = quote
                    ofi[second] += new[1] * (new[0] >= bid) - bid_qty * (new[0] <= bid)
                    ofi[second] += ask_qty * (new[2] >= ask) - new[3] * (new[2] <= ask)
                quote = new
            else:
                trades[second] += 1
                delta = float(wire["p"]) * float(wire["nq"]) * (1 - 2 * wire["m"])
                recent = np.array(deltas[-300:] or [delta])
                floor = 1.8 * 1.4826 * float(np.median(np.abs(recent - np.median(recent))))
                scale = max(0.2 * fast + 0.8 * slow, floor, 1e-9) if deltas else abs(delta)
                z = float(np.clip(delta / scale, -8, 8))
                rates = [1 - 2 ** (-1 / half_life) if deltas else 1.0 for half_life in (80, 600)]
                fast += rates[0] * (abs(delta) - fast)
                slow += rates[1] * (abs(delta) - slow)
                deltas.append(delta)
        assert quote is not None
        mid[second] = (quote[0] + quote[2]) / 2
        z_cvd[second] = z
    z_ofi = np.zeros(seconds)
    for second in range(WARM_UP, seconds):
        past = ofi[second - 300 : second]
        z_ofi[second] = np.clip((ofi[second] - past.mean()) / past.std(), -8, 8)
    return Signal(z_ofi, z_cvd, mid, trades)


cached_signal: Callable[[MarketParams, int], Signal] = cache(compute_signal)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_fused_score_has_the_skill_that_was_asked_for(seed: int) -> None:
    assert cached_signal(DEFAULT, seed).auc() == pytest.approx(0.69, abs=0.025)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_platt_fit_stays_calibrated_forward_in_time(seed: int) -> None:
    assert cached_signal(DEFAULT, seed).forward_ece() < 0.07


def test_labels_seldom_tie_and_scores_are_soon_forgotten() -> None:
    signal = cached_signal(DEFAULT, 1)
    assert signal.rows()[2] < 0.02
    assert 0.4 < signal.autocorrelation() < 0.7


def test_trades_without_skill_ruin_the_cvd_score_and_spare_the_fused_one() -> None:
    signal = cached_signal(CVD_USELESS, 1)
    assert signal.auc(ofi_weight=0) == pytest.approx(0.5, abs=0.03)
    assert 0.65 < signal.auc(ofi_weight=0.6) < 0.72


def test_a_lower_target_gives_a_lower_skill() -> None:
    params = MarketParams(auc_active=0.58, auc_quiet=0.58)
    assert compute_signal(params, 1, 5000).auc() == pytest.approx(0.58, abs=0.03)


def test_the_active_regime_has_about_twice_the_trades_of_the_quiet_one() -> None:
    rates = [
        compute_signal(DEFAULT, 1, 400, imposed(ForcedRegime(type="regime", regime=regime)))
        .trades[10:]
        .mean()
        for regime in (Regime.ACTIVE, Regime.QUIET)
    ]
    assert 1.7 < rates[0] / rates[1] < 2.3


def imposed(fault: object, from_second: int = 0) -> EffectsAt:
    book = FaultBook(("BTCUSDT",), can_disturb_market=True)
    book.impose([fault], from_second * 1000)  # type: ignore[list-item]
    return book.effects


def test_a_calibration_shift_ruins_calibration_and_keeps_the_ranking() -> None:
    shift = CalibrationShift(type="calibration_shift", delta_logit=1.2)
    signal = compute_signal(DEFAULT, 1, 5000, imposed(shift, from_second=2660))
    assert signal.forward_ece() > 0.18
    score, up, _ = signal.rows()
    half = len(score) // 2 + 50
    assert roc_auc_score(up[half:], score[half:]) > 0.64


@pytest.mark.parametrize(("factor", "auc"), [(0.0, 0.5), (-1.0, 0.31)])
def test_the_skill_fault_takes_the_skill_away_or_turns_it_round(factor: float, auc: float) -> None:
    fault = Skill(type="skill", factor=factor)
    assert compute_signal(DEFAULT, 2, 3500, imposed(fault)).auc() == pytest.approx(auc, abs=0.04)


def test_an_inverted_maker_flag_turns_the_cvd_score_round() -> None:
    normal = cached_signal(DEFAULT, 1)
    inverted = compute_signal(DEFAULT, 1, 3000, imposed(InvertedMaker(type="inverted_maker")))
    assert normal.auc(ofi_weight=0) > 0.56
    assert inverted.auc(ofi_weight=0) < 0.44


def test_a_frozen_mid_makes_every_label_a_tie() -> None:
    signal = compute_signal(DEFAULT, 1, 600, imposed(FrozenMid(type="frozen_mid")))
    assert signal.rows()[2] == 1.0

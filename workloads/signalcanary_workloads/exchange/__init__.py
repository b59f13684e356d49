"""A local exchange that speaks Binance USD-M's public protocol.

It exists so that harvest, analysis and a whole rollout can be exercised against an opponent
whose truth is known: a synthetic market whose predictability is a parameter, recorded frames
that are replayed byte for byte, and every fault of a real exchange at the flick of a switch.
Harvest must not be able to tell it from production, so nothing here may be imported by
harvest or analysis.

Layers, each knowing only those above it:

    oracle, clock          formulas; virtual time
    model, history         the market; what REST can still serve
    protocol, faults       wire forms; what goes wrong, and when
    delivery, sources      frames in the order and at the time they are due
    hub, engine            connections and queues; the pump that drives it all
    websocket, rest, control, server, cli
"""

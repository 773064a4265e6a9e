"""The built-in methods, by name: where each is and what it is. One file a method, imported only when used."""

from __future__ import annotations

BUILT_IN: dict[str, tuple[str, str]] = {
    "chance": ("methods.chance:Chance", "equal logits for every class (ties share credit: exactly 1/ways)"),
    "cl_lstm": ("methods.cl_lstm:CLLSTM", "convolutional LSTM layers, an LSTM and a linear classifier"),
    "copy_last": ("methods.copy_last:CopyLast", "answers with the newest revealed label"),
    "count": ("methods.count:Count", "answers with the class revealed least often"),
    "lstm": ("methods.lstm:LSTM", "an LSTM over conv features or pixels"),
    "majority": ("methods.majority:Majority", "answers with the class revealed most often"),
    "nearest_pixel": ("methods.nearest_pixel:NearestPixel", "nearest revealed image in squared pixel distance"),
    "opn": ("methods.opn:OPN", "online prototypes over a small conv net"),
}

"""The built-in methods, by name: where each is and what it is. One file a method, imported only when used."""

from __future__ import annotations

BUILT_IN: dict[str, tuple[str, str]] = {
    "all_background": ("methods.all_background:AllBackground", "masks: nothing is an object"),
    "all_foreground": ("methods.all_foreground:AllForeground", "masks: everything is the object"),
    "anml": ("methods.anml:ANML", "a conv net learning by gradient, its features gated by a second net"),
    "apl": ("methods.apl:APL", "surprise-gated memory of embeddings, read by relational attention"),
    "chance": ("methods.chance:Chance", "equal logits for every class (ties share credit: exactly 1/ways)"),
    "cl_lstm": ("methods.cl_lstm:CLLSTM", "convolutional LSTM layers, an LSTM and a linear classifier"),
    "cl_resnet20": ("methods.cl_resnet20:CLResNet20", "ResNet-20 of convolutional LSTM layers"),
    "cl_vgg11": ("methods.cl_vgg11:CLVGG11", "VGG-11 of convolutional LSTM layers"),
    "cnn_lstm": ("methods.cnn_lstm:CNNLSTM", "an LSTM over a conv net made by MAML"),
    "copy_last": ("methods.copy_last:CopyLast", "answers with the newest revealed label"),
    "copy_last_mask": ("methods.copy_last_mask:CopyLastMask", "masks: the newest revealed mask"),
    "count": ("methods.count:Count", "answers with the class revealed least often"),
    "cpm": ("methods.cpm:CPM", "online prototypes seen in context, with gated writes"),
    "lstm": ("methods.lstm:LSTM", "an LSTM over conv features or pixels"),
    "maml": ("methods.maml:MAML", "a net that learns by gradient from a start made for it"),
    "majority": ("methods.majority:Majority", "answers with the class revealed most often"),
    "matching_online": ("methods.matching_online:MatchingOnline", "softmax attention over all revealed images"),
    "mean_mask": ("methods.mean_mask:MeanMask", "masks: where most revealed objects were"),
    "nearest_pixel": ("methods.nearest_pixel:NearestPixel", "nearest revealed image in squared pixel distance"),
    "ntm": ("methods.ntm:NTM", "an LSTM with a memory that it reads by content and writes where least used"),
    "oml": ("methods.oml:OML", "linear layers learning by gradient over a fixed conv net made for that"),
    "opn": ("methods.opn:OPN", "online prototypes over a small conv net"),
    "resnet20": ("methods.resnet20:ResNet20", "a residual net of 20 layers for single images"),
    "transformer": ("methods.transformer:Transformer", "attention over all images and labels so far"),
    "vgg11": ("methods.vgg11:VGG11", "a conv net of 11 layers for single images"),
}

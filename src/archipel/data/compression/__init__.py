"""How an update is written in fewer bytes: codecs, one idea a file, each a pure function of vector and random stream.

What a codec writes is a tensor file whose layout follows from the model's alone: the reader knows it beforehand, and
refuses any other.
"""

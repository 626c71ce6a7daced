"""What a round costs when nothing is computed: Archipel, Flower and raw gRPC, the same bytes, four sites."""

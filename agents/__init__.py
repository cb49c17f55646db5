"""Entity-encoder agents: networks, losses, distributed training on Ray, evaluation."""

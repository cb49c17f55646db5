"""Language: pretrain on bytes or word pieces, fine-tune on one task or many, fill masks, generate."""

"""Text as numbers: tokens, documents, packed rows, masking."""

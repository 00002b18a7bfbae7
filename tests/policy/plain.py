# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Teacher forcing with the plain model: one public forward per prompt and action, nothing packed, padded or shared.

Written from the formulas alone: it uses nothing of `trl_glam.policy` but the language model inside.
"""

import torch


def plain_tokens(tokenizer, encoder_decoder: bool, prompt: str, action: str) -> tuple[list[int], list[int]]:
    """Ids of the prompt and of the action."""
    if encoder_decoder:
        return tokenizer(prompt)["input_ids"], tokenizer(action, add_special_tokens=False)["input_ids"]
    whole = tokenizer(prompt + action)["input_ids"]
    ids = tokenizer(prompt[:-1] if prompt.endswith(" ") else prompt)["input_ids"]
    # The boundary is where it would be if the whole text were tokenized.
    assert whole[: len(ids)] == ids
    return ids, whole[len(ids) :]


def plain_logits(lm, ids: list[int], targets: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `(len(targets), V)` that predict the targets, and the hidden state `(d,)` that the heads read."""
    if lm.config.is_encoder_decoder:
        out = lm(
            input_ids=torch.tensor([ids]),
            decoder_input_ids=torch.tensor([[lm.config.decoder_start_token_id, *targets[:-1]]]),
            output_hidden_states=True,
        )
        return out.logits[0], out.decoder_hidden_states[-1][0, 0]
    out = lm(input_ids=torch.tensor([ids + targets]), output_hidden_states=True)
    return out.logits[0, len(ids) - 1 : -1], out.hidden_states[-1][0, len(ids) - 1]


def plain_scores(lm, tokenizer, prompt: str, actions: list[str], scoring: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores `(len(actions),)` and the hidden state `(d,)`."""
    scores, lengths = [], []
    for action in actions:
        ids, tokens = plain_tokens(tokenizer, lm.config.is_encoder_decoder, prompt, action)
        targets = [*tokens, tokenizer.eos_token_id] if scoring == "paper" else tokens
        logits, state = plain_logits(lm, ids, targets)
        if scoring != "paper":
            logits = logits.log_softmax(-1)
        score = sum(logits[i, token] for i, token in enumerate(targets))
        divisor = {"token": len(tokens), "word": len(action.split())}.get(scoring, 1)
        scores.append(score / divisor)
        lengths.append(len(targets))
    if scoring == "paper":
        scores = [score + 1.0 * (max(lengths) - length) for score, length in zip(scores, lengths, strict=True)]
    return torch.stack(scores), state

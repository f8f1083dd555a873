"""The words around the figures, in both languages."""

from __future__ import annotations

WORDS = {
    "en": {
        "other": "[한국어]({name}.ko.md) · [all networks](index.md)",
        "made": (
            "Made by `python scripts/network_pages.py`; its figures come from `results/`."
        ),
        "tutorial": "tutorial",
        "program": "where it was published",
        "parameters": "trained numbers",
        "optimizer": "optimizer",
        "training": "training",
        "steps": "{steps:,} steps of {batch} images",
        "epochs": "{epochs} epochs, in batches of {batch} images",
        "published": "published test accuracy",
        "head": "| TensorFlow 1 | PyTorch | the proof: float64, then float32 |",
        "stage": "{name}",
        "gradient": "gradient of {name}",
        "check/loss": "the loss",
        "check/step": "weights and optimizer state after steps",
        "check/initialisation": "initial values, as distributions",
        "check/data": "every pixel and label of three epochs",
        "check/recipe": "every number of the recipe",
        "check/draws": "the dropout's random numbers, as a distribution",
        "check/accuracy": "outputs on the 10,000 test images",
        "exact": "equal",
        "not asked": "not asked",
        "verified": (
            "`{command}` (commit {commit}; torch {torch}, TensorFlow {tensorflow}, on "
            "the CPU) asked {claims} claims about this network, with {comparisons:,} "
            "comparisons. {held}"
        ),
        "all hold": "All hold.",
        "some fail": "**{failed} fail.**",
        "accuracy": "test accuracy",
        "measured head": (
            "| steps | seeds | mean test accuracy | standard deviation | 95 % interval "
            "| published | training time |"
        ),
        "recipe": (
            "Whole recipes in float32 on the CPU ({processor}, {threads} threads), made "
            "by `mnistport reproduce`:"
        ),
        "interval": (
            "The deviation is over the seeds. The interval is that of a test set of "
            "10,000 images. The time is the median."
        ),
        "distance": (
            "The mean is {distance:.1f} standard errors {side} the published figure."
        ),
        "above": "above",
        "below": "below",
        "reached": "That counts as reached.",
        "rounds to it": (
            "Rounded to the digits that the authors give, it is the same figure."
        ),
        "stages": "Test accuracy on the way, mean over the seeds:",
        "step": "step",
        "losses": "Mean loss of each epoch, in nats (units of the natural logarithm):",
        "epoch": "epoch",
        "the book": "published",
        "ours": "ours",
        "lockstep": (
            "Trained side by side with TF1 in float64 (`{command}`), for {steps:,} of "
            "{whole:,} steps: the largest difference in any weight is {weights:.0e} at "
            "the end. {same:,} of {total:,} test images are put into the same class. "
            "TF1's accuracy is {theirs:.4f}, ours {ours:.4f}."
        ),
        "index title": "The eight networks",
        "index": (
            "Each page lays the TensorFlow 1 program beside the PyTorch module, line by "
            "line, and beside the figures of the proof. It says what the tutorial "
            "promised, what its program really does, and what we measured."
        ),
        "index head": (
            "| network | tutorial | trained numbers | optimizer | published | measured |"
        ),
        "index other": "[한국어](index.ko.md)",
    },
    "ko": {
        "other": "[English]({name}.md) · [전체 신경망](index.ko.md)",
        "made": (
            "이 문서는 `python scripts/network_pages.py`로 만들었습니다. "
            "수치는 모두 `results/`에 있는 결과 파일에서 가져옵니다."
        ),
        "tutorial": "튜토리얼",
        "program": "출처",
        "parameters": "학습하는 매개변수 수",
        "optimizer": "최적화 알고리즘",
        "training": "학습",
        "steps": "배치 크기 {batch}, {steps:,}스텝",
        "epochs": "배치 크기 {batch}, {epochs}에포크",
        "published": "튜토리얼이 밝힌 테스트 정확도",
        "head": "| TensorFlow 1 | PyTorch | 증명: float64, 그 아래 float32 |",
        "stage": "{name}",
        "gradient": "{name}의 기울기",
        "check/loss": "손실",
        "check/step": "스텝 후의 가중치와 옵티마이저 상태",
        "check/initialisation": "초깃값의 분포",
        "check/data": "3에포크의 모든 픽셀과 레이블",
        "check/recipe": "학습 설정의 모든 수",
        "check/draws": "드롭아웃 난수의 분포",
        "check/accuracy": "테스트 이미지 10,000장에 대한 출력",
        "exact": "일치",
        "not asked": "묻지 않음",
        "verified": (
            "`{command}`(커밋 {commit}, torch {torch}, TensorFlow {tensorflow}, CPU)로 "
            "이 신경망에 대한 주장 {claims}개를 확인했고, 비교 횟수는 "
            "{comparisons:,}회입니다. {held}"
        ),
        "all hold": "모두 성립합니다.",
        "some fail": "**{failed}개가 성립하지 않습니다.**",
        "accuracy": "테스트 정확도",
        "measured head": (
            "| 스텝 | 시드 수 | 평균 테스트 정확도 | 표준편차 | 95 % 신뢰구간 "
            "| 튜토리얼 | 학습 시간 |"
        ),
        "recipe": (
            "`mnistport reproduce`로 전체 학습 과정을 float32로 CPU({processor}, 스레드 "
            "{threads}개)에서 실행한 결과입니다."
        ),
        "interval": (
            "표준편차는 시드에 따른 것이고, 신뢰구간은 테스트 이미지 10,000장에서 오는 "
            "것입니다. 시간은 중앙값입니다."
        ),
        "distance": "평균은 튜토리얼의 값보다 표준오차의 {distance:.1f}배만큼 {side}.",
        "above": "높습니다",
        "below": "낮습니다",
        "reached": "이 정도면 같은 값에 도달한 것으로 봅니다.",
        "rounds to it": "저자가 적은 자릿수로 반올림하면 같은 값입니다.",
        "stages": "학습 도중의 테스트 정확도(시드 평균)입니다.",
        "step": "스텝",
        "losses": "에포크별 평균 손실입니다. 단위는 자연로그의 단위인 nat입니다.",
        "epoch": "에포크",
        "the book": "튜토리얼",
        "ours": "우리 쪽",
        "lockstep": (
            "TF1과 나란히 float64로 전체 {whole:,}스텝 중 {steps:,}스텝을 "
            "학습했습니다(`{command}`). 마지막에 가중치의 최대 차이는 {weights:.0e}이고, "
            "테스트 이미지 {total:,}장 중 {same:,}장을 같은 클래스로 분류합니다. "
            "정확도는 TF1이 {theirs:.4f}, 우리 쪽이 {ours:.4f}입니다."
        ),
        "index title": "여덟 가지 신경망",
        "index": (
            "각 문서는 TensorFlow 1 프로그램과 PyTorch 모듈을 한 줄씩 나란히 놓고, "
            "그 옆에 증명의 수치를 적었습니다. 튜토리얼이 말한 것, 프로그램이 실제로 "
            "하는 것, 우리가 측정한 것을 함께 설명합니다."
        ),
        "index head": (
            "| 신경망 | 튜토리얼 | 매개변수 수 | 최적화 알고리즘 | 발표된 정확도 "
            "| 측정한 정확도 |"
        ),
        "index other": "[English](index.md)",
    },
}

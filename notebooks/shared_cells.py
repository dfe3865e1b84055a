# The cells that all family notebooks share, in order. Edit them here; `make notebooks` writes them.
#
# Jupytext's percent format: `# %%` opens a cell. Words in braces such as {family} are filled in. Cells of a notebook
# whose ids do not occur here are its own; they stay behind the cell that they follow. Code of cells without tags is in
# the key of every record: leave it as it is.

# %% [markdown] id="badge" tags=["colab"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{notebook})

# %% id="colab" tags=["colab"] cellView="form" jupyter={"source_hidden": true}
# Only in Colab: fetch the package that this notebook belongs to. Elsewhere this cell does nothing.
# It is the same in all notebooks, and written by `make notebooks` from notebooks/shared_cells.py.
DRIVE_FOLDER = ""  # @param {"type": "string", "help": "folder of your Drive that keeps the runs"}
import importlib
import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ:
    os.environ.setdefault("CIFAR_REPORT_PACKAGE", "https://github.com/{repository}/archive/{ref}.zip")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *(os.environ["CIFAR_REPORT_PACKAGE"], "ruamel.yaml>=0.18"),  # Colab has what else a run needs
        ],
        check=True,
    )
    importlib.invalidate_caches()
    from cifar_report.execution.requirements import unmet_requirements

    # Runtime > Change runtime type offers runtimes with other versions.
    sys.stdout.writelines(f"{sentence}\n" for sentence in unmet_requirements())
    import torch

    if not torch.cuda.is_available():
        print("This runtime has no GPU and will be slow: Runtime > Change runtime type > T4 GPU, then run all.")
    if DRIVE_FOLDER:
        from google.colab import drive

        try:
            drive.mount("/content/drive")
            os.environ["CIFAR_REPORT_BACKUP"] = f"/content/drive/MyDrive/{DRIVE_FOLDER}"
        except Exception as error:
            print(f"The Drive could not be mounted ({error}): the run goes on, and nothing is copied there.")
del DRIVE_FOLDER

# %% [markdown] id="parameters-text"
# ## Parameters
#
# Every experiment has a number, such as EXP003, and a notebook holds a *family* of them. EXP000 to EXP020 repeat those of *the original report*, a student's course work of 2020; later numbers are ours.
#
# The next cell holds everything that defines the run. Change it in the cell, with `papermill -p`, or with a file of `params/`; a misspelt name or an impossible value is refused below, before anything is trained.
#
# To repeat another experiment of this family, write its name in `experiment`, and run that cell and the one below it, which lists every parameter that the experiment's file sets differently. Set those here, and run both again. For a change of your own, give `experiment` a new name, such as `"MINE1"`: the comparison at the end then shows it beside the others. Under the old name it would replace the earlier run. To start anew, always begin with the parameters: later cells reuse the names `dataset` and `model` for the images and the network.
#
# On a CPU the small networks take minutes, the wide fast network half an hour and more, EfficientNet-B0, ResNet-18 and MobileNetV2 one to two and a half hours, VGG-16 about a day (estimated from its operations), and one epoch at 224 pixels half an hour to two hours. For a first look: `train_limit = 5000`, `test_limit = 500`, `epochs = 5`; with pretrained networks 2,000 images and two epochs, and in notebooks 6 and 7 `image_size = 64`.

# %% id="start"
from cifar_report.run import Run

run = Run.start(globals(), family="{family}")

# %% id="imports" tags=["show"]
from cifar_report import Journal
from cifar_report.journal.frames import family_frame
from cifar_report.journal.observations import observe
from cifar_report.journal.statements import family_findings
from cifar_report.predict import predict
from cifar_report.report import confusion_matrix, image_grids, plots

parameters = run.parameters

# %% [markdown] id="data-text"
# ## Data
#
# CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes, 50,000 to train on and 10,000 to test with. *Validation* images are scored after every epoch; the network never learns from them. The original protocol validates on the test images after every epoch, so its validation and test accuracy are one and the same number; `validation = "holdout"` keeps 5,000 training images apart instead. The figure below has one column for each class.

# %% id="data"
dataset = run.load_dataset()

# %% id="data-shown" tags=["show"]
image_grids.classes_grid(dataset.train.images.cpu().numpy(), dataset.train.labels.cpu().numpy(), dataset.classes)

# %% id="model"
model = run.build_model()

# %% id="model-shown" tags=["show"]
model

# %% [markdown] id="training-text"
# ## Training
#
# One line per epoch. Training figures are means over the epoch, measured while the model changes and with any dropout active (it sets random outputs to zero in training: notebook 12); validation figures belong to the model as it stands at the end of the epoch.

# %% id="training"
history = run.train()

# %% id="results"
evaluation = run.evaluate()

# %% id="results-shown" tags=["show"]
plots.learning_curves({parameters.experiment: [history]})

# %% [markdown] id="confusion-text"
# Rows are what the images show, columns what the model says.

# %% id="confusion" tags=["show"]
confusion_matrix.confusion_matrix(run.predictions.confusion_matrix(), dataset.classes)

# %% [markdown] id="mistakes-text"
# The wrong answers that the model was surest of: the label, what the model took it for, and the probability it gave.

# %% id="mistakes" tags=["show"]
image_grids.confident_mistakes(dataset.test.images.cpu().numpy(), run.predictions, dataset.classes)

# %% [markdown] id="record-text"
# The run folder now gets its weights, its predictions for every test image and, last of all, its record.

# %% id="record"
record = run.complete()

# %% [markdown] id="own-picture-text"
# ## A picture of your own
#
# Try the finished model on any picture: name a file (in Colab, one that you uploaded) and run the cell again. Its central square is first scaled to the size of the training images (CIFAR-10: 32 x 32 pixels), and from there to `image_size`. The model answers with one of its classes, whatever the picture shows.

# %% id="own-picture" tags=["show"]
picture = None  # such as "cat.jpg", or a folder of pictures
if picture:
    guesses, unreadable = predict([picture], run.folder)
    print(*guesses, *(f"{path}: {reason}" for path, reason in unreadable), sep="\n")

# %% id="comparison" tags=["show"]
journal = Journal(parameters.output_dir)
family_frame(journal, run.family)

# %% id="comparison-curves" tags=["show"]
plots.learning_curves(plots.histories(journal.family_runs(run.family)))

# %% [markdown] id="shown-text"
# ## What this shows
#
# The sentences below are computed from the runs above. The statements on this family that the runs here can test follow; each needs runs at full budget, most need several seeds. What our own records say: [findings](https://github.com/{repository}/blob/{ref}/docs/findings.md).

# %% id="shown" tags=["show"]
for sentence in observe(journal.family_results(run.family), journal):
    print("-", sentence)
print("\nStatements, and what the runs here say of them:")
found = family_findings(journal, run.family)
for finding in found:
    if not finding.lacks_runs:
        print("-", finding)
waiting = sum(finding.lacks_runs for finding in found)
print(f"{waiting} of {len(found)} statements wait for runs that are not here, or not at full budget.")

# %% id="download" tags=["colab"] cellView="form" jupyter={"source_hidden": true}
# Only in Colab: download what the run left, weights included.
if "COLAB_RELEASE_TAG" in os.environ:
    import shutil

    from google.colab import files

    files.download(shutil.make_archive(f"/content/{record.experiment}-seed-{record.seed}", "zip", run.folder))
